"""Takes odd keys and an object of many properties there and back with each tool, and prints what came back.

Started by bench/run, which says what it needs and what it does.
"""

import http.client
import subprocess
from urllib.parse import urlsplit

from s3 import Storage
from tools import environment, tools, version
from turns import ROOT, chosen, parsed, parser, run, say

KEYS = [
    "plain.txt", "dir", "dir/", "dir/below", "empty/", " lead", "trail ", "two  blanks", "tab\there", "new\nline", "re\rturn",
    "\x01control", "/lead", "//", "a//b", "./dot", "a/../b", "?query=1&x=2", "it?versionId=1", "#hash", "%2Fpercent", "+plus", "Zo\u00eb.txt",
    "Zoe\u0308.txt", "\u65e5\u672c/\u8a9e.pdf", "\U0001f600.png", "back\\slash", "quo\"te's", "*star?[x]", "-dash", "k" * 1024,
]
# At this one s5cmd's listing ends, so all of it is done once more without.
CONTROL = "\x01control"
TYPED = "typed.pdf"
PROPERTIES = {
    "ContentType": "application/pdf",
    "CacheControl": "max-age=60",
    "ContentDisposition": 'attachment; filename="a b.pdf"',
    "ContentEncoding": "identity",
    "ContentLanguage": "de",
    "StorageClass": "STANDARD_IA",
    "Metadata": {"ward": "3", "who": "=?UTF-8?Q?Zo=C3=AB?="},
}
EXPIRES = "Wed, 21 Oct 2099 07:28:00 GMT"
TAGS = [{"Key": "kind", "Value": "scan"}, {"Key": "stage", "Value": "final draft"}]
SHOWN = 4


def arguments():
    options = parser("bench/run exact", "Odd keys and properties, there and back with each tool.", rounds=1)
    options.add_argument("--only", metavar="TOOLS", help="only these, with commas: nexus, s5cmd, rclone, aws")
    return parsed(options)


def put(storage, bucket, key):
    """By a signed URL as it stands: urllib3, below botocore, would take `.` and `..` out of it."""
    url = urlsplit(storage.client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=600))
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    connection.request("PUT", f"{url.path}?{url.query}", body=b"" if key.endswith("/") else f"content of {key!r}".encode())
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"error: the service answers {answer.status} to {key!r}")


def fill(storage, bucket, keys):
    storage.create(bucket)
    for key in keys:
        put(storage, bucket, key)
    storage.client.put_object(Bucket=bucket, Key=TYPED, Body=b"typed", Expires=EXPIRES, **PROPERTIES)
    storage.client.put_object_tagging(Bucket=bucket, Key=TYPED, Tagging={"TagSet": TAGS})


def properties(storage, bucket):
    """What an object has, by name; nothing when it is not there."""
    try:
        head = storage.client.head_object(Bucket=bucket, Key=TYPED)
    except storage.client.exceptions.ClientError:
        return {}
    tags = storage.client.get_object_tagging(Bucket=bucket, Key=TYPED)["TagSet"]
    named = {name: head.get(name) for name in PROPERTIES} | {"Expires": str(head.get("Expires"))}
    return named | {"Tags": sorted((tag["Key"], tag["Value"]) for tag in tags)}


class Bench:
    def __init__(self, asked, storage, folder, keys):
        self.storage, self.folder, self.timeout, self.keys = storage, folder, asked.timeout, keys
        self.source = f"source-{len(keys)}"
        known = tools(ROOT, storage.url, ROOT / "target/release/nexus")
        self.environment = environment(storage.url, *storage.keys, folder)
        self.chosen = [known[name] for name in chosen(asked, known)]
        fill(storage, self.source, keys)
        self.wanted, self.typed = storage.listing(self.source), properties(storage, self.source)

    def status(self, name, command):
        ended = subprocess.run(
            command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.timeout,
            check=False,
        )
        say(f"{name}: status {ended.returncode} {ended.stderr.decode(errors='replace').strip()[-300:]}")
        return ended.returncode

    def there_and_back(self, tool):
        """The statuses of both ways; what lies in the third bucket afterwards is what came back."""
        there, back = f"{tool.name}-there-{len(self.keys)}", f"{tool.name}-back-{len(self.keys)}"
        self.storage.create(there)
        self.storage.create(back)
        returning = tool.restore(self.source, there, back) if tool.restore else tool.first(there, back)
        return back, self.status(tool.name, tool.first(self.source, there)), self.status(tool.name, returning)

    def row(self, tool):
        bucket, *statuses = self.there_and_back(tool)
        back = self.storage.listing(bucket)
        lost = [key for key in self.keys if back.get(key) != self.wanted[key]]
        typed = properties(self.storage, bucket)
        missing = [name for name, value in self.typed.items() if typed.get(name) != value]
        words = ", ".join(f"`{key[:24]!r}`" for key in lost[:SHOWN]) + (", …" if len(lost) > SHOWN else "")
        silent = "yes" if (lost or missing) and not any(statuses) else ""
        return (
            f"| {tool.name} | {len(self.keys) - len(lost)} of {len(self.keys)} | {words} | {len(set(back) - set(self.wanted))} "
            f"| {len(self.typed) - len(missing)} of {len(self.typed)} | {', '.join(missing)} | {statuses[0]}, {statuses[1]} | {silent} |"
        )

    def table(self):
        return [
            "| tool | keys back | not back, or not the same | keys that were not there | properties back | lost "
            "| exit status there, back | lost and said nothing |",
            "| --- | ---: | --- | ---: | ---: | --- | ---: | --- |",
            *(self.row(tool) for tool in self.chosen),
        ]


def main():
    asked = arguments()

    def story(folder, stopping, _load_before):
        storage = Storage(folder, stopping, "sandbox")
        work = folder / "work"
        work.mkdir()
        bench = Bench(asked, storage, work, KEYS)
        lines = [
            f"{len(KEYS)} keys and one object of {len(bench.typed)} properties, from a bucket of {storage.name} into another and on into a "
            "third; by nexus a backup and a restore, by the others two copies.",
            f"Tools: {', '.join(version(tool) for tool in bench.chosen)}.",
            "",
            *bench.table(),
            "",
            f"The same without `{CONTROL!r}`:",
            "",
            *Bench(asked, storage, work, [key for key in KEYS if key != CONTROL]).table(),
            "",
        ]
        shown = [line for tool in bench.chosen for line in (tool.shown_first, tool.shown_restore) if line]
        return "\n".join(lines + [f"    {line}" for line in shown])

    run(asked, story)


if __name__ == "__main__":
    main()
