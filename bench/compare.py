"""Runs the tools in turns on one service and prints what each took, and nexus's share of it.

Started by bench/run, which says what it needs and what it does.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import botocore.session
from botocore.config import Config

import clinic
from tools import REGION, environment, tools, version

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "crates/nexus-testkit/python"))
import servers  # noqa: E402

BUILT = ROOT / "target/release/nexus"
SOURCE = "clinic"
FIRST, AGAIN = "first copy", "second run"
# The share of the machine that others may use before a measurement is marked.
DISTURBED = 0.10
CALM_SECONDS = 2
QUIET_WITHIN_SECONDS = 60
LOG_SHOWN = 4_000
MIB = 1024 * 1024

# What is promised of nexus: beside which tools, what of it, and the highest ratio.
TARGETS = [
    (FIRST, "seconds", ("s5cmd", "rclone", "aws"), 1.0),
    (FIRST, "processor", ("s5cmd",), 0.7),
    (AGAIN, "seconds", ("s5cmd", "rclone", "aws"), 1.0),
]
MEASURES = {"seconds": "wall time", "processor": "processor time", "peak": "peak memory"}


@dataclass(frozen=True)
class Taken:
    """One measurement of one tool."""

    seconds: float
    processor: float
    peak: int
    # Processor seconds of the service meanwhile, and the share of the machine that went to others.
    service: float
    others: float


class Failed(Exception):
    """What ends the run; its text says it all."""


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run", description="Runs nexus beside its peers and prints ratios.")
    parser.add_argument("--only", metavar="TOOLS", help="only these, with commas: nexus, s5cmd, rclone, aws")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each tool runs [3]")
    parser.add_argument("--objects", type=int, default=clinic.OBJECTS, metavar="N", help=f"[{clinic.OBJECTS}]")
    parser.add_argument("--save", metavar="NAME", help="also write bench/results/NAME.md")
    parser.add_argument("--timeout", type=int, default=900, metavar="SECONDS", help="for one run of one tool [900]")
    parser.add_argument(
        "--patience", type=int, default=30, metavar="SECONDS",
        help="how long to wait before each run of a tool for others to leave the machine alone [30]",
    )
    parser.add_argument("--no-build", action="store_true", help="take target/release/nexus as it is")
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.objects < 1 or asked.timeout < 1:
        parser.error("numbers start at 1")
    if asked.save and not asked.save.replace("-", "").replace("_", "").isalnum():
        parser.error("--save takes letters, digits, - and _")
    return asked


def say(text):
    print(text, file=sys.stderr, flush=True)


def ticks(pid=None):
    """Processor seconds used so far by all, or by one process and those it waited for."""
    if pid is None:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _waiting, *interrupts = map(int, fields[:8])
        used = user + nice + system + sum(interrupts)
    else:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        used = sum(map(int, fields[11:15]))
    return used / os.sysconf("SC_CLK_TCK")


class Bench:
    """A service with the clinic in it, and runs of tools beside it."""

    def __init__(self, asked, service, folder):
        self.asked, self.service, self.folder = asked, service, folder
        # A copy: the one in target/ changes when somebody builds meanwhile.
        ours = folder / "nexus"
        if BUILT.exists():
            shutil.copy2(BUILT, ours)
        self.tools = tools(ROOT, service.url, ours)
        names = asked.only.split(",") if asked.only else list(self.tools)
        if unknown := [name for name in names if name not in self.tools]:
            raise Failed(f"--only knows {', '.join(self.tools)}, not {', '.join(unknown)}")
        self.chosen = [tool for name, tool in self.tools.items() if name in names]
        self.environment = environment(service.url, service.access_key, service.secret_key, folder)
        self.client = botocore.session.get_session().create_client(
            "s3", endpoint_url=service.url, region_name=REGION,
            aws_access_key_id=service.access_key, aws_secret_access_key=service.secret_key,
            config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=120),
        )
        self.source = {}
        self.taken = {}

    def load(self):
        self.client.create_bucket(Bucket=SOURCE)
        loader = clinic.Loader(self.service.url, self.service.access_key, self.service.secret_key, SOURCE)
        size = loader.load(self.asked.objects)
        self.source = self.listing(SOURCE)
        if len(self.source) != self.asked.objects:
            raise Failed(f"{self.asked.objects} objects were loaded and {len(self.source)} are there")
        return size

    def listing(self, bucket):
        """Size and ETag of each key."""
        found = {}
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for page in pages:
            found |= {each["Key"]: (each["Size"], each["ETag"]) for each in page.get("Contents", [])}
        return found

    def settle(self):
        """Waits until the service has done what came before, and, for a while, until nobody else works here."""
        begun, calm = time.monotonic(), 0
        while calm < CALM_SECONDS:
            machine, service = ticks(), ticks(self.service.child.pid)
            time.sleep(1)
            machine, service = ticks() - machine, ticks(self.service.child.pid) - service
            waited = time.monotonic() - begun
            tired = waited > self.asked.patience
            at_rest = service < 0.05 and (tired or machine - service < DISTURBED * os.cpu_count())
            calm = calm + 1 if at_rest else 0
            if waited > self.asked.patience + QUIET_WITHIN_SECONDS:
                return

    def rounds(self):
        for number in range(1, self.asked.rounds + 1):
            # Another one begins each time, so that none has always the freshest service.
            turn = (number - 1) % len(self.chosen)
            for tool in self.chosen[turn:] + self.chosen[:turn]:
                bucket = f"{tool.name}-{number}"
                self.client.create_bucket(Bucket=bucket)
                self.measure(FIRST, tool, number, tool.first(SOURCE, bucket), bucket)
                self.measure(AGAIN, tool, number, tool.again(SOURCE, bucket), bucket)

    def measure(self, kind, tool, number, command, bucket):
        self.settle()
        result, output, errors = (self.folder / name for name in ("result", "output", "errors"))
        launcher = [sys.executable, "-I", "-S", str(ROOT / "bench/measure.py"), *map(str, (result, output, errors))]
        machine, service, begun = ticks(), ticks(self.service.child.pid), time.monotonic()
        with subprocess.Popen(
            [*launcher, str(self.asked.timeout), *command],
            env=self.environment, cwd=self.folder, preexec_fn=servers.die_with_parent,
        ) as child:
            try:
                child.wait(self.asked.timeout + 30)
            finally:
                child.terminate()
        elapsed = time.monotonic() - begun
        machine, service = ticks() - machine, ticks(self.service.child.pid) - service
        measured = json.loads(result.read_text())
        said = errors.read_text(errors="replace")[-LOG_SHOWN:].strip()
        if measured["status"]:
            raise Failed(f"{tool.name}, {kind}, ended with status {measured['status']}:\n{said}")
        others = max(0.0, machine - service - measured["processor"]) / (elapsed * os.cpu_count())
        taken = Taken(measured["seconds"], measured["processor"], measured["peak"], service, others)
        self.taken.setdefault((kind, tool.name), []).append(taken)
        mark = f", disturbed: others used {others:.0%} of the machine" if others > DISTURBED else ""
        say(
            f"  round {number}, {kind}, {tool.name}: {taken.seconds:.2f} s, processor {taken.processor:.2f} s, "
            f"peak {taken.peak / MIB:.0f} MiB, service {taken.service:.2f} s{mark}"
        )
        if said:
            say(f"    it said: {said}")
        self.check(kind, tool, bucket, output.read_text(errors="replace"))

    def check(self, kind, tool, bucket, printed):
        """What a tool took counts only when everything is there."""
        if complaint := tool.complaint(printed, kind == AGAIN):
            raise Failed(f"{tool.name}, {kind}: {complaint}")
        there = {tool.original(key): what for key, what in self.listing(bucket).items() if tool.original(key)}
        if there != self.source:
            wrong = [key for key, what in self.source.items() if there.get(key) != what]
            extra = len(there.keys() - self.source.keys())
            raise Failed(f"{tool.name}, {kind}: {len(wrong)} objects are not as in the source, {extra} are too many; {wrong[:3]}")


def median(all_taken, measure):
    return statistics.median(getattr(taken, measure) for taken in all_taken)


def table(bench, kind):
    """The medians of one kind as Markdown, with nexus's share of each peer's."""
    lines = [
        "| tool | wall s | processor s | peak MiB | service s | others | nexus/it: wall | processor | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = bench.taken.get((kind, "nexus"))
    for tool in bench.chosen:
        taken = bench.taken[kind, tool.name]
        wall, processor, peak, service = (median(taken, each) for each in ("seconds", "processor", "peak", "service"))
        ratios = ["", "", ""]
        if ours and tool.name != "nexus":
            ratios = [f"{median(ours, each) / median(taken, each):.2f}" for each in MEASURES]
        spread = f"{wall:.2f} ({min(t.seconds for t in taken):.2f}–{max(t.seconds for t in taken):.2f})"
        used = f"{processor:.2f} | {peak / MIB:.0f} | {service:.2f} | {median(taken, 'others'):.0%}"
        lines.append(f"| {tool.name} | {spread} | {used} | {' | '.join(ratios)} |")
    return lines


def verdicts(bench):
    """Each promise, and whether it is kept."""
    lines = []
    for kind, measure, peers, highest in TARGETS:
        ours = bench.taken.get((kind, "nexus"))
        present = {peer: bench.taken[kind, peer] for peer in peers if (kind, peer) in bench.taken}
        if not ours or not present:
            continue
        best = min(present, key=lambda peer: median(present[peer], measure))
        ratio = median(ours, measure) / median(present[best], measure)
        kept = "kept" if ratio <= highest else "MISSED"
        disturbed = max(median(taken, "others") for taken in (ours, present[best])) > DISTURBED
        if measure == "seconds" and disturbed:
            kept += ", but others used the machine: run it again when it is quiet"
        lines.append(f"- {kind}, {MEASURES[measure]}: {ratio:.2f} of {best}'s, at most {highest:.2f}: {kept}")
    if FIRST in {kind for kind, name in bench.taken if name == "nexus"}:
        peak = max(taken.peak for (_, name), all_taken in bench.taken.items() if name == "nexus" for taken in all_taken)
        highest = 100 if bench.asked.objects <= clinic.OBJECTS else 150
        kept = "kept" if peak < highest * MIB else "MISSED"
        lines.append(f"- highest peak memory of nexus: {peak / MIB:.0f} MiB, below {highest}: {kept}")
    return lines


def report(bench, size, load_before):
    rounds = bench.asked.rounds
    others = max(taken.others for all_taken in bench.taken.values() for taken in all_taken)
    lines = [
        f"{bench.asked.objects:,} objects, {size / 1e6:.0f} MB, on SeaweedFS of this machine; "
        f"medians of {rounds} round{'s' * (rounds > 1)}.",
        f"{os.cpu_count()} processors, {platform.machine()}, Linux {platform.release()}; the load average was "
        f"{load_before:.2f} before, and others used at most {others:.0%} of the machine during a measurement.",
        "`service`: processor seconds of the service meanwhile; `others`: the share of the machine that went to neither.",
        f"Tools: {', '.join(version(tool) for tool in bench.chosen)}.",
    ]
    for kind, shown in ((FIRST, "shown_first"), (AGAIN, "shown_again")):
        lines += ["", f"## {kind.capitalize()}", "", *table(bench, kind), ""]
        lines += [f"    {getattr(tool, shown)}" for tool in bench.chosen]
    if promises := verdicts(bench):
        lines += ["", "## Targets", "", *promises]
    return "\n".join(lines)


def build():
    say("== cargo build --release -p nexus")
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "nexus"], cwd=ROOT, check=True)


def main():
    asked = arguments()
    if not asked.no_build and (not asked.only or "nexus" in asked.only.split(",")):
        build()
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    service = None
    load = os.getloadavg()[0]
    say(f"== load average {load:.2f} on {os.cpu_count()} processors")
    try:
        service = servers.seaweedfs(folder)
        service.wait_until_it_stores()
        work = folder / "work"
        work.mkdir()
        bench = Bench(asked, service, work)
        say(f"== loading {asked.objects:,} objects")
        size = bench.load()
        say("== measuring")
        bench.rounds()
        text = report(bench, size, load)
        print(text)
        if asked.save:
            place = ROOT / "bench/results" / f"{asked.save}.md"
            place.parent.mkdir(exist_ok=True)
            place.write_text(f"# Bench: {asked.save}\n\n{text}\n")
            say(f"== written to {place.relative_to(ROOT)}")
    except (Failed, subprocess.SubprocessError) as cause:
        sys.exit(f"error: {cause}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if service:
            service.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
