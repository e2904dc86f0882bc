"""What all benches do: tools take turns beside servers, each run is measured, and nexus's share of each peer's is told.

A bench is a list of kinds of runs and of tools; what a tool took is found under a kind and the tool's name.
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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "crates/nexus-testkit/python"))
import postgresql  # noqa: E402, F401
import servers  # noqa: E402

BUILT = ROOT / "target/release/nexus"
# The share of the machine that others may use before a measurement is marked.
DISTURBED = 0.10
CALM_SECONDS = 2
QUIET_WITHIN_SECONDS = 60
LOG_SHOWN = 4_000
MIB = 1024 * 1024
MEASURES = {"seconds": "wall time", "processor": "processor time", "peak": "peak memory"}


@dataclass(frozen=True)
class Taken:
    """One measurement of one tool."""

    seconds: float
    processor: float
    # Of the largest of its processes.
    peak: int
    # Processor seconds of the servers meanwhile, and the share of the machine that went to others.
    service: float
    others: float
    # The peak that was seen last of each process, by name, and the most bytes in the folder for temporary files.
    processes: dict[str, int] = field(default_factory=dict)
    scratch: int = 0


class Failed(Exception):
    """What ends the run; its text says it all."""


def parser(program, description, *, rounds=3, timeout=900):
    """The options that every bench has."""
    options = argparse.ArgumentParser(prog=program, description=description)
    options.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"how often each tool runs [{rounds}]")
    options.add_argument("--save", metavar="NAME", help="also write bench/results/NAME.md")
    options.add_argument(
        "--timeout", type=int, default=timeout, metavar="SECONDS", help=f"for one run of one tool [{timeout}]"
    )
    options.add_argument(
        "--patience", type=int, default=30, metavar="SECONDS",
        help="how long to wait before each run of a tool for others to leave the machine alone [30]",
    )
    options.add_argument("--no-build", action="store_true", help="take target/release/nexus as it is")
    return options


def parsed(options, *counts):
    """What was asked for; `counts` names the options of the bench itself that are numbers."""
    asked = options.parse_args()
    if any(getattr(asked, count) < 1 for count in ("rounds", "timeout", *counts)):
        options.error("numbers start at 1")
    if asked.save and not asked.save.replace("-", "").replace("_", "").isalnum():
        options.error("--save takes letters, digits, - and _")
    return asked


def chosen(asked, known):
    """The names of --only in the order of `known`, or all of them."""
    names = asked.only.split(",") if asked.only else list(known)
    if unknown := [name for name in names if name not in known]:
        raise Failed(f"--only knows {', '.join(known)}, not {', '.join(unknown)}")
    return [name for name in known if name in names]


def say(text):
    print(text, file=sys.stderr, flush=True)


def ticks(pid=None):
    """Processor seconds used so far by all, or by one process, those it waited for and those it has."""
    if pid is None:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _waiting, *interrupts = map(int, fields[:8])
        return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    used, waiting = 0, [pid]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            tasks = [(task / "children").read_text() for task in (process / "task").iterdir()]
        except OSError:
            continue  # It ended in between: whoever waits for it takes over what it used.
        used += sum(map(int, fields[11:15]))
        waiting += " ".join(tasks).split()
    return used / os.sysconf("SC_CLK_TCK")


class Turns:
    """Runs of tools, one at a time, beside servers that are at rest before each."""

    def __init__(self, asked, folder, beside, environment):
        """`beside` are the servers, each with its first process as `child`."""
        self.asked, self.folder = asked, folder
        self.servers = [server.child.pid for server in beside]
        scratch = folder / "tmp"
        scratch.mkdir()
        self.environment = environment | {"TMPDIR": str(scratch)}
        self.taken = {}
        # A copy: the one in target/ changes when somebody builds meanwhile.
        self.ours = folder / "nexus"
        if BUILT.exists():
            shutil.copy2(BUILT, self.ours)

    def rounds(self, tools):
        """Yields the number of each round with each tool."""
        for number in range(1, self.asked.rounds + 1):
            # Another one begins each time, so that none has always the freshest service.
            turn = (number - 1) % len(tools)
            for tool in tools[turn:] + tools[:turn]:
                yield number, tool

    def service_ticks(self):
        return sum(map(ticks, self.servers))

    def settle(self):
        """Waits until the servers have done what came before, and, for a while, until nobody else works here."""
        begun, calm = time.monotonic(), 0
        while calm < CALM_SECONDS:
            machine, service = ticks(), self.service_ticks()
            time.sleep(1)
            machine, service = ticks() - machine, self.service_ticks() - service
            waited = time.monotonic() - begun
            tired = waited > self.asked.patience
            at_rest = service < 0.05 and (tired or machine - service < DISTURBED * os.cpu_count())
            calm = calm + 1 if at_rest else 0
            if waited > self.asked.patience + QUIET_WITHIN_SECONDS:
                return

    def measure(self, kind, name, number, command, variables=None):
        """Runs a tool's command, keeps what it took, and answers what it printed."""
        self.settle()
        result, output, errors = (self.folder / each for each in ("result", "output", "errors"))
        launcher = [sys.executable, "-I", "-S", str(ROOT / "bench/measure.py"), *map(str, (result, output, errors))]
        machine, service, begun = ticks(), self.service_ticks(), time.monotonic()
        with subprocess.Popen(
            [*launcher, str(self.asked.timeout), *command],
            env=self.environment | (variables or {}), cwd=self.folder, preexec_fn=servers.die_with_parent,
        ) as child:
            try:
                child.wait(self.asked.timeout + 30)
            finally:
                child.terminate()
        elapsed = time.monotonic() - begun
        machine, service = ticks() - machine, self.service_ticks() - service
        measured = json.loads(result.read_text())
        said = errors.read_text(errors="replace")[-LOG_SHOWN:].strip()
        if measured["status"]:
            raise Failed(f"{name}, {kind}, ended with status {measured['status']}:\n{said}")
        others = max(0.0, machine - service - measured["processor"]) / (elapsed * os.cpu_count())
        kept = {each: measured[each] for each in ("seconds", "processor", "peak", "processes", "scratch")}
        taken = Taken(service=service, others=others, **kept)
        self.taken.setdefault((kind, name), []).append(taken)
        mark = f", disturbed: others used {others:.0%} of the machine" if others > DISTURBED else ""
        say(
            f"  round {number}, {kind}, {name}: {taken.seconds:.2f} s, processor {taken.processor:.2f} s, "
            f"peak {taken.peak / MIB:.0f} MiB, service {taken.service:.2f} s{mark}"
        )
        if said:
            say(f"    it said: {said}")
        return output.read_text(errors="replace")

    def run(self, name, command):
        """Runs a command that is not measured."""
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, timeout=self.asked.timeout)
        if done.returncode:
            raise Failed(f"{name} ended with status {done.returncode}:\n{done.stderr.decode(errors='replace')[-LOG_SHOWN:]}")

    def worst_disturbance(self):
        return max(taken.others for all_taken in self.taken.values() for taken in all_taken)


def median(all_taken, measure):
    return statistics.median(getattr(taken, measure) for taken in all_taken)


def spread(all_taken):
    """The median of the wall times with the least and the most."""
    seconds = [taken.seconds for taken in all_taken]
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"


def ratios(ours, name, taken):
    """Nexus's share of what a peer took, in each measure."""
    if not ours or name == "nexus":
        return [""] * len(MEASURES)
    return [f"{median(ours, each) / median(taken, each):.2f}" for each in MEASURES]


def share(taken, kind, measure, peers, highest):
    """Whether nexus takes at most its share of the best of the peers that ran, as a line; nothing when none did."""
    ours = taken.get((kind, "nexus"))
    present = {peer: taken[kind, peer] for peer in peers if (kind, peer) in taken}
    if not ours or not present:
        return []
    best = min(present, key=lambda peer: median(present[peer], measure))
    ratio = median(ours, measure) / median(present[best], measure)
    kept = verdict(ratio <= highest)
    if measure == "seconds":
        kept += caveat(ours, present[best])
    return [f"- {kind}, {MEASURES[measure]}: {ratio:.2f} of {best}'s, at most {highest:.2f}: {kept}"]


def verdict(kept):
    return "kept" if kept else "MISSED"


def caveat(*measurements):
    disturbed = max(median(taken, "others") for taken in measurements) > DISTURBED
    return ", but others used the machine: run it again when it is quiet" if disturbed else ""


def conditions(turns, load_before):
    """What was run where, and how much of the machine went to others."""
    return (
        f"{os.cpu_count()} processors, {platform.machine()}, Linux {platform.release()}; the load average was "
        f"{load_before:.2f} before, and others used at most {turns.worst_disturbance():.0%} of the machine during a "
        "measurement."
    )


def build():
    say("== cargo build --release -p nexus")
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "nexus"], cwd=ROOT, check=True)


def run(asked, story):
    """Runs a bench in a private folder of its own, and prints the report that `story` answers.

    It is handed the folder, what stops servers however it ends, and the load average before.
    """
    if not asked.no_build and (not asked.only or "nexus" in asked.only.split(",")):
        build()
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    load = os.getloadavg()[0]
    say(f"== load average {load:.2f} on {os.cpu_count()} processors")
    try:
        with ExitStack() as stopping:
            text = story(folder, stopping, load)
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
        shutil.rmtree(folder, ignore_errors=True)
