"""Stores a folder in a bucket with each tool in turns on one service and prints what each took, and nexus's share of it.

Started by bench/run, which says what it needs and what it does.
"""

import random

from s3 import Storage, checked, late, with_service
from tools import environment, folder_tools, version
from turns import MIB, ROOT, Failed, Turns, chosen, conditions, median, parsed, parser, ratios, run, say, share, spread
from turns import verdict

KIND = "folder into a bucket"
SEED = 20_251_115
MEMORY_MIB = 128
TARGETS = [(KIND, "seconds", ("s5cmd", "rclone"), 1.0)]
# Files and their bytes for each 2,000 MB: a few large ones, some of middling size, and many small ones.
SIZES = [(4, 256 * MIB), (40, 16 * MIB), (2_000, 150_000)]
WHOLE = 2_000


def arguments():
    options = with_service(
        parser("bench/run folder", "Stores a folder with nexus beside its peers and prints ratios.", rounds=2)
    )
    options.add_argument("--only", metavar="TOOLS", help="only these, with commas: nexus, s5cmd, rclone")
    options.add_argument("--megabytes", type=int, default=WHOLE, metavar="N", help=f"[{WHOLE}]")
    return checked(options, parsed(options, "megabytes"))


def fill(folder, megabytes):
    """Writes the files and answers the size of each by its name."""
    dice, sizes = random.Random(SEED), {}
    block = dice.randbytes(MIB)
    for count, size in SIZES:
        for number in range(max(1, count * megabytes // WHOLE)):
            name = f"{size}/{number % 50:02}/file {number:05}.bin"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                out.write(number.to_bytes(8) + dice.randbytes(8))
                left = size - 16
                while left:
                    piece = block[:left]
                    out.write(piece)
                    left -= len(piece)
            sizes[name] = size
    return sizes


class Bench:
    def __init__(self, asked, storage, folder):
        self.asked, self.storage = asked, storage
        self.turns = Turns(asked, folder, [storage], environment(storage.url, *storage.keys, folder))
        known = folder_tools(ROOT, storage.url, self.turns.ours)
        self.chosen = [known[name] for name in chosen(asked, known)]
        self.source = folder / "source"
        self.source.mkdir()
        self.sizes = fill(self.source, asked.megabytes)

    def warm_up(self):
        """Has the service hold as much once as it will have to: memory and disk that it takes for the first time cost it more."""
        bucket = "warm-up"
        self.storage.create(bucket)
        self.turns.run(self.chosen[-1].name, self.chosen[-1].first(str(self.source), bucket))
        self.storage.empty(bucket)

    def rounds(self):
        for number, tool in self.turns.rounds(self.chosen):
            bucket = f"{tool.name}-{number}"
            self.storage.create(bucket)
            printed = self.turns.measure(KIND, tool.name, number, tool.first(str(self.source), bucket))
            if complaint := tool.complaint(printed, False):
                raise Failed(f"{tool.name}: {complaint}")
            listed = {tool.original(key): size for key, (size, _) in self.storage.listing(bucket).items()}
            listed.pop(None, None)
            if listed != self.sizes:
                wrong = [name for name, size in self.sizes.items() if listed.get(name) != size]
                raise Failed(f"{tool.name}: {len(wrong)} of {len(self.sizes)} files are not there; {wrong[:3]}")
            self.storage.empty(bucket)


def table(bench):
    lines = [
        "| tool | wall s | MB/s | processor s | peak MiB | service s | others | nexus/it: wall | processor | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    total, ours = sum(bench.sizes.values()), bench.turns.taken.get((KIND, "nexus"))
    for tool in bench.chosen:
        taken = bench.turns.taken[KIND, tool.name]
        seconds, processor, peak, service = (median(taken, each) for each in ("seconds", "processor", "peak", "service"))
        used = f"{processor:.2f} | {peak / MIB:.0f} | {service:.2f} | {median(taken, 'others'):.0%}"
        speed = f"{total / 1e6 / seconds:.0f}"
        lines.append(f"| {tool.name} | {spread(taken)} | {speed} | {used} | {' | '.join(ratios(ours, tool.name, taken))} |")
    return lines


def report(bench, load_before):
    taken, rounds = bench.turns.taken, bench.asked.rounds
    lines = [
        f"{len(bench.sizes):,} files, {sum(bench.sizes.values()) / 1e6:,.0f} MB, into {bench.storage.name} on this machine"
        f"{late(bench.asked)}; medians of {rounds} round{'s' * (rounds > 1)}.",
        conditions(bench.turns, load_before),
        "The whole command of nexus counts: SHA-256 of every file and a second hash, the listing, the commit, and the verification afterwards.",
        f"Tools: {', '.join(version(tool) for tool in bench.chosen)}.",
        "",
        *table(bench),
        "",
        *(f"    {tool.shown_first}" for tool in bench.chosen),
    ]
    promises = [line for target in TARGETS for line in share(taken, *target)]
    if (KIND, "nexus") in taken:
        peak = max(each.peak for each in taken[KIND, "nexus"])
        promises.append(
            f"- highest peak memory of nexus: {peak / MIB:.0f} MiB, below {MEMORY_MIB}: {verdict(peak < MEMORY_MIB * MIB)}"
        )
    return "\n".join([*lines, "", "## Targets", "", *promises] if promises else lines)


def main():
    asked = arguments()

    def story(folder, stopping, load_before):
        storage = Storage(folder, stopping, asked.service, asked.latency)
        work = folder / "work"
        work.mkdir()
        say(f"== writing {asked.megabytes:,} MB")
        bench = Bench(asked, storage, work)
        bench.warm_up()
        say("== measuring")
        bench.rounds()
        return report(bench, load_before)

    run(asked, story)


if __name__ == "__main__":
    main()
