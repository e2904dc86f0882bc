"""Stores a PostgreSQL database in a bucket in several ways in turns, and prints what each took, and nexus's share.

Started by bench/run, which says what it needs and what it does.
"""

import hashlib
import json
import shlex
import subprocess
from dataclasses import dataclass
from typing import Callable

import postgres
from postgres import Postgres
from s3 import Storage
from tools import environment, tools, version
from turns import MIB, ROOT, Failed, Turns, chosen, conditions, median, parsed, parser, ratios, run, say, share, spread
from turns import verdict

DATABASE, RESTORED = "bench", "restored"
# The key of a peer's object; nexus chooses its own.
KEY = "bench.dump"
DUMP = "dump"
MEMORY_MIB = 128
# What may lie in the folder for temporary files: a password, no dump.
SCRATCH_BYTES = MIB

# What is promised of nexus: beside which way, what of it, and the highest ratio.
TARGETS = [
    (DUMP, "seconds", ("aws",), 0.5),
    (DUMP, "seconds", ("zstd",), 1.0),
    (DUMP, "seconds", ("pg_dump",), 1.1),
]


@dataclass(frozen=True)
class Way:
    """A way to store a dump; `command` makes its command from the name of a bucket."""

    name: str
    command: Callable[[str], list[str]]
    # The command as a reader types it, without what only leads to the throwaway servers.
    shown: str
    # The key of the dump, told from what was printed; nothing when it is kept nowhere.
    stored: Callable[[str], str | None]
    # What turns it into what pg_restore reads.
    unpack: str = "cat"


def arguments():
    options = parser("bench/run dump", "Stores a PostgreSQL database with nexus and its peers and prints ratios.")
    options.add_argument("--only", metavar="WAYS", help="only these, with commas: nexus, aws, zstd, pg_dump")
    options.add_argument(
        "--megabytes", type=int, default=1000, metavar="N", help="how large the database is, about [1000]"
    )
    return parsed(options, "megabytes")


def ways(server, url, ours, aws):
    """All of them, by name, in the order of the table."""
    # Nexus asks the service to encrypt what it stores, so the service is asked the same by all.
    to = [*aws, "s3", "cp", "--only-show-errors", "--endpoint-url", url, "--sse", "AES256", "-"]

    def pipeline(*steps):
        def command(bucket):
            store = shlex.join([*to, f"s3://{bucket}/{KEY}"])
            return ["/bin/bash", "-o", "pipefail", "-c", " | ".join([*steps, store])]

        return command

    def nexus(bucket):
        flags = ["--app", "bench", "--database", server.url(DATABASE), "--vault", f"s3://{bucket}", "--endpoint", url]
        return [str(ours), "backup", "--only", "database", *flags, "--json", "--quiet"]

    bare = ["/bin/bash", "-c", f"exec pg_dump -Fc -Z1 {DATABASE} >/dev/null"]
    cp = "aws s3 cp --sse AES256 - s3://BUCKET/KEY"
    found = [
        Way(
            "nexus", nexus, "nexus backup --only database --database postgres://… --vault s3://BUCKET",
            lambda printed: json.loads(printed)["manifest"]["parts"]["database"]["object"]["key"],
        ),
        Way("aws", pipeline(f"pg_dump -Fc {DATABASE}"), f"pg_dump -Fc DATABASE | {cp}", lambda _: KEY),
        Way(
            "zstd", pipeline(f"pg_dump -Fc -Z0 {DATABASE}", "zstd -q -T2"),
            f"pg_dump -Fc -Z0 DATABASE | zstd -T2 | {cp}", lambda _: KEY, "zstd -dcq",
        ),
        Way(
            # The quickest that a pg_dump of this version compresses by itself.
            "pg_dump", lambda _: bare, "pg_dump -Fc -Z1 DATABASE >/dev/null", lambda _: None,
        ),
    ]
    return {way.name: way for way in found}


class Bench:
    """A service and a server with a database, and runs of ways to store it."""

    def __init__(self, asked, storage, server, folder):
        self.asked, self.storage, self.server, self.folder = asked, storage, server, folder
        environment_ = environment(storage.url, *storage.keys, folder) | server.variables()
        self.turns = Turns(asked, folder, [storage, server], environment_)
        self.aws = tools(ROOT, storage.url, self.turns.ours)["aws"]
        # The program itself, without what makes it tell its version.
        known = ways(server, storage.url, self.turns.ours, self.aws.version[:-1])
        self.chosen = [known[name] for name in chosen(asked, known)]
        # Bytes of the dump in the bucket, by the name of the way.
        self.sizes = {}
        self.last = None

    def rounds(self):
        for number, way in self.turns.rounds(self.chosen):
            bucket = f"{way.name.replace('_', '-')}-{number}"
            self.storage.create(bucket)
            printed = self.turns.measure(DUMP, way.name, number, way.command(bucket))
            self.check(way, bucket, printed)

    def check(self, way, bucket, printed):
        """What a way took counts only when pg_restore reads the dump to its end."""
        if way.name == "nexus":
            made = json.loads(printed)
            if made["verdict"] != "verified":
                raise Failed(f"nexus: the verdict is {made['verdict']}")
            self.last = (bucket, made)
        key = way.stored(printed)
        if key is None:
            return
        path = self.folder / "fetched"
        self.storage.fetch(bucket, key, path)
        self.sizes[way.name] = path.stat().st_size
        # The list alone would be there in a dump that was cut off: it stands at the beginning.
        read = f'{way.unpack} "$0" | pg_restore -l >"$1" && {way.unpack} "$0" | pg_restore -f /dev/null'
        said = self.shell(read, path, self.folder / "list")
        if said.returncode:
            raise Failed(f"{way.name}: pg_restore does not read s3://{bucket}/{key}: {said.stderr}")
        listed = (self.folder / "list").read_text().count(" TABLE DATA ")
        if listed != len(postgres.TABLES):
            raise Failed(f"{way.name}: {listed} tables have rows in s3://{bucket}/{key}, not {len(postgres.TABLES)}")
        path.unlink()

    def shell(self, script, *words):
        # It is not pipefail: once pg_restore has its list it reads no further.
        command = ["/bin/bash", "-c", script, *map(str, words)]
        return subprocess.run(command, env=self.turns.environment, capture_output=True, text=True)

    def restore(self):
        """Restores the last dump of nexus with pg_restore alone, and answers what came of it."""
        if not self.last:
            return []
        bucket, made = self.last
        stored = made["manifest"]["parts"]["database"]["object"]
        path = self.folder / "fetched"
        self.storage.fetch(bucket, stored["key"], path)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != stored["sha256"]:
                raise Failed(f"s3://{bucket}/{stored['key']} is not what the manifest says")
        self.server.create(RESTORED)
        said = self.shell(f'pg_restore --exit-on-error -d {RESTORED} "$0"', path)
        if said.returncode:
            raise Failed(f"pg_restore cannot restore s3://{bucket}/{stored['key']}: {said.stderr}")
        there, wanted = self.server.counts(RESTORED), self.server.counts(DATABASE)
        kept = verdict(there == wanted)
        rows = f"{sum(there.values()):,} of {sum(wanted.values()):,} rows in {len(there)} of {len(wanted)} tables"
        return [f"- the last dump of nexus, restored by pg_restore alone: {rows}: {kept}"]


def memory(taken):
    """The highest peak of each process by name, largest first; the shell, which only waits, is left out."""
    highest = {}
    for each in taken:
        for name, peak in each.processes.items():
            highest[name] = max(peak, highest.get(name, 0))
    # The AWS command line is a script.
    named = {"aws" if name.startswith("python") else name: peak for name, peak in highest.items() if name != "bash"}
    shown = sorted(named.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {peak / MIB:.0f}" for name, peak in shown)


def table(bench):
    """The medians as Markdown, with nexus's share of each peer's."""
    lines = [
        "| way | wall s | processor s | peak MiB | of each process | dump MB | servers s | others "
        "| nexus/it: wall | processor | memory |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = bench.turns.taken.get((DUMP, "nexus"))
    for way in bench.chosen:
        taken = bench.turns.taken[DUMP, way.name]
        processor, peak, service = (median(taken, each) for each in ("processor", "peak", "service"))
        size = f"{bench.sizes[way.name] / 1e6:.0f}" if way.name in bench.sizes else ""
        used = f"{processor:.2f} | {peak / MIB:.0f} | {memory(taken)} | {size} | {service:.2f}"
        shares = " | ".join(ratios(ours, way.name, taken))
        lines.append(f"| {way.name} | {spread(taken)} | {used} | {median(taken, 'others'):.0%} | {shares} |")
    return lines


def verdicts(bench):
    """Each promise, and whether it is kept."""
    taken = bench.turns.taken
    lines = [line for target in TARGETS for line in share(taken, *target)]
    if ours := taken.get((DUMP, "nexus")):
        peak, scratch = max(each.peak for each in ours), max(each.scratch for each in ours)
        most = f"{peak / MIB:.0f} MiB, below {MEMORY_MIB}: {verdict(peak < MEMORY_MIB * MIB)}"
        lines.append(f"- highest peak memory of nexus and its children: {most}")
        most = f"{scratch:,}, at most {SCRATCH_BYTES:,}: {verdict(scratch <= SCRATCH_BYTES)}"
        lines.append(f"- most bytes in its folder for temporary files: {most}")
    return lines


def report(bench, size, restored, load_before):
    rounds = bench.asked.rounds
    programs = [postgres.version("pg_dump"), version(bench.aws)]
    zstd = subprocess.run(["zstd", "--version"], capture_output=True, text=True, check=True).stdout
    programs.append(f"zstd {zstd.split(' v', 1)[1].split(',', 1)[0]}")
    if bench.turns.ours.exists():
        ours = subprocess.run([bench.turns.ours, "--version"], capture_output=True, text=True, check=True).stdout
        programs.insert(0, ours.strip())
    lines = [
        f"A database of {size / 1e6:.0f} MB in PostgreSQL {postgres.MAJOR} without fsync, its dump into SeaweedFS, "
        f"both on this machine; medians of {rounds} round{'s' * (rounds > 1)}.",
        conditions(bench.turns, load_before),
        "`processor` and `peak` are the clients': the time of all processes, the memory of the largest; `of each "
        "process`: the most that was seen of each, ten times a second; `servers`: processor seconds of PostgreSQL and "
        "SeaweedFS meanwhile; `others`: the share of the machine that went to none of them.",
        "The whole command of nexus counts, its verification included. Each asks SeaweedFS to encrypt what it stores.",
        f"Programs: {', '.join(programs)}.",
        "", "## Dump", "", *table(bench), "",
        *(f"    {way.name + ':':<9}{way.shown}" for way in bench.chosen),
    ]
    if promises := verdicts(bench) + restored:
        lines += ["", "## Targets", "", *promises]
    return "\n".join(lines)


def main():
    asked = arguments()

    def story(folder, stopping, load_before):
        server = Postgres(folder, stopping)
        storage = Storage(folder, stopping)
        work = folder / "work"
        work.mkdir()
        bench = Bench(asked, storage, server, work)
        say(f"== making a database of {asked.megabytes} MB")
        postgres.fill(server, DATABASE, asked.megabytes)
        size = server.size(DATABASE)
        say("== measuring")
        bench.rounds()
        say("== restoring")
        return report(bench, size, bench.restore(), load_before)

    run(asked, story)


if __name__ == "__main__":
    main()
