"""The tools that are compared: how each copies a bucket, how it does so again, and what it says of itself."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

REGION = "us-east-1"
AT_ONCE = "64"


@dataclass(frozen=True)
class Tool:
    """A command line tool; `first` and `again` make its commands from the names of two buckets."""

    name: str
    first: Callable[[str, str], list[str]]
    again: Callable[[str, str], list[str]]
    # The command as a reader types it, without what only leads to the throwaway service.
    shown_first: str
    shown_again: str
    version: list[str]
    # Judges what it printed after a second run; answers what is wrong, or nothing.
    complaint: Callable[[str, bool], str | None] = lambda printed, again: None
    # Where in the other bucket it puts the object of a key; nothing for objects of its own.
    original: Callable[[str], str | None] = lambda key: key
    # Makes a third bucket as the first one was, from what it has in the second; nothing where that is done by `again`.
    restore: Callable[[str, str, str], list[str]] | None = None
    shown_restore: str = ""


def tools(root, url, ours):
    """All of them, by name, in the order of the table; `root` is the repository, `ours` the program nexus."""
    bin_ = Path(root) / ".bench-env" / "bin"
    (s5cmd,) = (Path(root) / ".bench-env").glob("lib/python*/site-packages/s5cmd/bin/s5cmd")
    found = [nexus(ours, url), s5cmd_tool(s5cmd, url), rclone(bin_ / "rclone"), aws(bin_, url)]
    return {tool.name: tool for tool in found}


def folder_tools(root, url, ours):
    """Those that store a folder, by name; `first` makes their commands from a folder and a bucket."""
    bin_ = Path(root) / ".bench-env" / "bin"
    (s5cmd,) = (Path(root) / ".bench-env").glob("lib/python*/site-packages/s5cmd/bin/s5cmd")

    def backup(folder, bucket):
        flags = ["--app", "bench", "--files", folder, "--vault", f"s3://{bucket}", "--endpoint", url]
        return [str(ours), "backup", "--only", "files", *flags, "--json", "--quiet"]

    found = [
        Tool(
            "nexus", backup, None, "nexus backup --only files --files FOLDER --vault s3://BUCKET", "",
            [str(ours), "--version"], complaint=nexus_complaint, original=nexus_original,
        ),
        Tool(
            "s5cmd",
            lambda folder, bucket: [str(s5cmd), "--endpoint-url", url, "--log", "error", "cp", f"{folder}/*", f"s3://{bucket}/"],
            None, "s5cmd --log error cp 'FOLDER/*' s3://BUCKET/", "", [str(s5cmd), "version"],
        ),
        Tool(
            "rclone",
            lambda folder, bucket: [
                str(bin_ / "rclone"), "copy", "--transfers", AT_ONCE, "--checkers", AT_ONCE, "--s3-no-check-bucket",
                folder, f"bench:{bucket}",
            ],
            None, f"rclone copy --transfers {AT_ONCE} --checkers {AT_ONCE} --s3-no-check-bucket FOLDER REMOTE:BUCKET", "",
            [str(bin_ / "rclone"), "version"],
        ),
    ]
    return {tool.name: tool for tool in found}


def nexus(path, url):
    def backup(source, vault):
        flags = ["--app", "bench", "--files", f"s3://{source}", "--vault", f"s3://{vault}", "--endpoint", url]
        return [str(path), "backup", "--only", "files", *flags, "--json", "--quiet"]

    def restore(source, vault, target):
        flags = ["--vault", f"s3://{vault}", "--endpoint", url, "--to-files", f"s3://{target}", "--confirm", target]
        return [str(path), "restore", "latest", "--only", "files", *flags, "--yes", "--no-safety-point", "--json", "--quiet"]

    shown = "nexus backup --only files --files s3://SOURCE --vault s3://OTHER"
    return Tool(
        "nexus", backup, backup, shown, shown, [str(path), "--version"],
        complaint=nexus_complaint, original=nexus_original, restore=restore,
        shown_restore="nexus restore latest --only files --vault s3://OTHER --to-files s3://THIRD --yes --no-safety-point",
    )


def nexus_complaint(printed, again):
    made = json.loads(printed)
    if "equal" in made:
        return None if made["equal"] else "what was restored is not equal"
    if made["verdict"] != "verified":
        return f"the verdict is {made['verdict']}"
    files = made["manifest"]["parts"]["files"]
    if again and files["copied"]["files"]:
        return f"{files['copied']['files']} unchanged files were copied again"
    return None


def nexus_original(key):
    """Copies lie at POINT/CATEGORY/KEY; a point's own documents are one level below it, or in its journal."""
    parts = key.split("/", 2)
    return parts[2] if len(parts) == 3 and parts[1] != "journal" else None


def s5cmd_tool(path, url):
    def command(verb):
        return lambda source, other: [
            str(path), "--endpoint-url", url, "--log", "error", verb, f"s3://{source}/*", f"s3://{other}/",
        ]

    return Tool(
        "s5cmd", command("cp"), command("sync"),
        "s5cmd --log error cp 's3://SOURCE/*' s3://OTHER/", "s5cmd --log error sync 's3://SOURCE/*' s3://OTHER/",
        [str(path), "version"],
    )


def rclone(path):
    # By checksum it need not ask for each object's time of modification, which it keeps in metadata,
    # and without the heads it asks once for each object beside copying it, not twice: fewer are not to be had.
    flags = [
        "--checksum", "--fast-list", "--transfers", AT_ONCE, "--checkers", AT_ONCE,
        "--s3-no-check-bucket", "--s3-no-head", "--s3-no-head-object",
    ]

    def command(verb):
        return lambda source, other: [str(path), verb, *flags, f"bench:{source}", f"bench:{other}"]

    shown = " ".join(flags)
    return Tool(
        "rclone", command("copy"), command("sync"),
        f"rclone copy {shown} REMOTE:SOURCE REMOTE:OTHER", f"rclone sync {shown} REMOTE:SOURCE REMOTE:OTHER",
        [str(path), "version"],
    )


def aws(folder, url):
    # Python is named because the script's first line cannot name a path that has a blank in it.
    program = [str(folder / "python"), str(folder / "aws")]

    def command(*verb):
        flags = ["--only-show-errors", "--endpoint-url", url]
        return lambda source, other: [*program, "s3", *verb, *flags, f"s3://{source}", f"s3://{other}"]

    return Tool(
        "aws", command("cp", "--recursive"), command("sync"),
        "aws s3 cp --recursive --only-show-errors s3://SOURCE s3://OTHER",
        "aws s3 sync --only-show-errors s3://SOURCE s3://OTHER",
        [*program, "--version"],
    )


def environment(url, access_key, secret_key, folder):
    """What the tools see: nothing of the person who runs them, and no configuration files."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "NO_PROXY": "127.0.0.1",
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG": "",
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_BENCH_ENDPOINT": url,
        "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": access_key,
        "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": secret_key,
        "RCLONE_CONFIG_BENCH_REGION": REGION,
    }


def version(tool):
    """Its first line about itself."""
    said = subprocess.run(tool.version, capture_output=True, text=True, timeout=60, check=True).stdout
    first = said.split("\n", 1)[0]
    return first.split(" ", 1)[0] if "/" in first else f"{tool.name} {first.removeprefix(tool.name).strip()}"
