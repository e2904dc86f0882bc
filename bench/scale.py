"""Backs up a synthetic bucket of any size and prints what listing, comparing and copying cost.

Started by bench/run, which says what it needs and what it does.
"""

import json
import subprocess
import time
import urllib.request

from tools import environment
from turns import MIB, ROOT, Failed, Turns, build, conditions, parsed, parser, run, say, servers

FIRST, COPIED, AGAIN, CHANGED = "first backup, its copies there", "first backup", "unchanged", "1 % changed"
# What the issue of scale promises, whatever the number of objects.
PEAK = 256 * MIB
# List prices of Amazon S3 in us-east-1, in dollars for a thousand (https://aws.amazon.com/s3/pricing/, 2025-01).
LISTS_AND_COPIES, READS = 0.005, 0.0004
READING = {"GetObject", "HeadObject", "GetBucketVersioning", "GetObjectTagging"}


def arguments():
    options = parser("bench/run scale", "Backs up a synthetic bucket and prints what that costs.", rounds=1, timeout=7200)
    options.add_argument("--objects", type=int, default=1_000_000, metavar="N", help="in the bucket [1000000]")
    options.add_argument("--copy", action="store_true", help="really copy all of them first, which takes a request each")
    options.set_defaults(only=None)
    return parsed(options, "objects")


class Synthetic:
    """A running service that generates what it lists; `child` is its process."""

    def __init__(self, objects, stopping):
        path = ROOT / "target/release/synthetic-s3"
        self.child = subprocess.Popen(
            [path, str(objects)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=servers.die_with_parent,
        )
        stopping.callback(self.stop)
        self.url = self.child.stdout.readline().strip()

    def stop(self):
        self.child.stdin.close()
        self.child.wait()

    def ask(self, what):
        with urllib.request.urlopen(f"{self.url}/-/{what}") as answer:
            return json.loads(answer.read())

    def tell(self, what):
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/{what}", data=b"", method="POST")).close()


class Bench:
    def __init__(self, asked, synthetic, folder):
        self.asked, self.synthetic = asked, synthetic
        self.turns = Turns(asked, folder, [synthetic], environment(synthetic.url, "any", "any", folder))
        self.command = [
            str(self.turns.ours), "backup", "--only", "files", "--app", "bench", "--files", "s3://source",
            "--vault", "s3://vault", "--endpoint", synthetic.url, "--json", "--quiet",
        ]
        self.counts = {}

    def rounds(self):
        if self.asked.copy:
            self.measure(COPIED, copied=self.asked.objects)
        else:
            self.break_off()
            self.measure(FIRST, copied=0)
        self.measure(AGAIN, copied=0)
        self.synthetic.tell("change")
        self.measure(CHANGED, copied=None)

    def break_off(self):
        """Leaves a backup that broke off when all was copied: a copy is a bit to the service, and a request to make."""
        child = subprocess.Popen(
            self.command, env=self.turns.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        claims = []
        while not claims:
            if child.poll() is not None:
                raise Failed(f"the backup that was to be broken off ended with status {child.returncode}")
            time.sleep(0.05)
            claims = [key for key in self.synthetic.ask("keys?vault") if key.endswith("/started.json")]
        child.kill()
        child.wait()
        self.synthetic.tell(f"preset?vault/{claims[0].removesuffix('started.json')}other/")

    def measure(self, kind, copied):
        self.synthetic.tell("reset")
        printed = self.turns.measure(kind, "nexus", 1, self.command)
        self.counts[kind] = self.synthetic.ask("counts")
        files = json.loads(printed)["manifest"]["parts"]["files"]
        made, asked = files["copied"]["files"], self.counts[kind].get("CopyObject", 0)
        if files["total"]["files"] != self.asked.objects:
            raise Failed(f"{kind}: {files['total']['files']} files of {self.asked.objects} are in the point")
        if made != asked or copied is not None and made != copied:
            raise Failed(f"{kind}: {made} files were copied by {asked} requests")


def row(kind, taken, counts, objects):
    millions = objects / 1e6
    reads = sum(count for name, count in counts.items() if name in READING)
    writes = sum(counts.values()) - reads
    dollars = (writes * LISTS_AND_COPIES + reads * READS) / 1_000
    lists = counts.get("ListObjectsV2", 0)
    cells = [
        kind, f"{taken.seconds:.0f}", f"{taken.processor:.0f}", f"{taken.peak / MIB:.0f}", f"{taken.scratch / 1e6:.0f}",
        f"{lists:,}", f"{counts.get('CopyObject', 0):,}", f"{taken.seconds / millions:.1f}",
        f"{(lists + counts.get('CopyObject', 0)) / millions:,.0f}", f"{dollars / millions:.3f}", f"{taken.others:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def report(bench, load_before):
    objects = bench.asked.objects
    taken = {kind: all_taken[0] for (kind, _), all_taken in bench.turns.taken.items()}
    peak = max(each.peak for each in taken.values())
    lines = [
        f"{objects:,} generated objects, listed by a service in another process of this machine.",
        conditions(bench.turns, load_before),
        "",
        "| run | wall s | processor s | peak MiB | scratch MB | lists | copies | s/million | requests/million | $/million | others |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(row(kind, each, bench.counts[kind], objects) for kind, each in taken.items()),
        "",
        f"- highest peak memory: {peak / MIB:.0f} MiB, below {PEAK / MIB:.0f}: {'kept' if peak < PEAK else 'MISSED'}",
    ]
    return "\n".join(lines)


def main():
    asked = arguments()
    if not asked.no_build:
        build()
        say("== cargo build --release -p nexus-testkit")
        subprocess.run(["cargo", "build", "--release", "--locked", "-p", "nexus-testkit", "--bins"], cwd=ROOT, check=True)
    asked.no_build = True

    def story(folder, stopping, load_before):
        work = folder / "work"
        work.mkdir()
        bench = Bench(asked, Synthetic(asked.objects, stopping), work)
        bench.rounds()
        return report(bench, load_before)

    run(asked, story)


if __name__ == "__main__":
    main()
