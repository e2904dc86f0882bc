"""Copies a bucket with each tool in turns on one service and prints what each took, and nexus's share of it.

Started by bench/run, which says what it needs and what it does.
"""

import shutil
from urllib.parse import quote

import clinic
from s3 import Storage, checked, late, with_service
from tools import AT_ONCE, Tool, environment, tools, version
from turns import MIB, ROOT, Failed, Turns, chosen, conditions, median, parsed, parser, ratios, run, say, share, spread
from turns import verdict

SOURCE = "clinic"
FIRST, AGAIN, MENDED = "first copy", "second run", "restore of 1 %"
BARE = "bare"
CURL = shutil.which("curl") or "curl"
# One object of so many is damaged before a restore.
DAMAGED = 100

# What is promised of nexus: beside which tools, what of it, and the highest ratio.
TARGETS = [
    (FIRST, "seconds", ("s5cmd", "rclone", "aws"), 1.0),
    (FIRST, "seconds", (BARE,), 1.1),
    (FIRST, "processor", ("s5cmd",), 0.5),
    (AGAIN, "seconds", ("s5cmd", "rclone", "aws"), 0.7),
]
# How much longer a restore of so little may take than a second run.
MENDED_TO_AGAIN = 1.5


def arguments():
    options = with_service(parser("bench/run", "Runs nexus beside its peers and prints ratios."))
    options.add_argument("--only", metavar="TOOLS", help="only these, with commas: nexus, bare, s5cmd, rclone, aws")
    options.add_argument("--objects", type=int, default=clinic.OBJECTS, metavar="N", help=f"[{clinic.OBJECTS}]")
    return checked(options, parsed(options, "objects"))


class Bench:
    """A service with the clinic in it, and runs of tools beside it."""

    def __init__(self, asked, storage, folder):
        self.asked, self.storage = asked, storage
        self.turns = Turns(asked, folder, [storage], environment(storage.url, *storage.keys, folder))
        self.tools = tools(ROOT, storage.url, self.turns.ours)
        self.tools[BARE] = self.bare()
        self.chosen = [self.tools[name] for name in chosen(asked, self.tools)]
        self.source = {}

    def bare(self):
        """A loop of signed copies that asks nothing and checks nothing: what the service can do."""

        def copies(source, bucket):
            file = self.turns.folder / "copies"
            with file.open("w") as out:
                for key in self.source:
                    url = self.storage.signed_copy(source, key, bucket)
                    out.write(f'next\nurl = "{url}"\nrequest = PUT\ndata = ""\nheader = "content-type:"\n')
                    out.write(f'header = "x-amz-copy-source: {source}/{quote(key, safe="/~")}"\noutput = /dev/null\n')
            return [CURL, "-sSZ", "--parallel-max", AT_ONCE, "--parallel-immediate", "-K", str(file)]

        shown = "curl -Z --parallel-max 64 -K FILE, which holds a signed copy of each object"
        return Tool(BARE, copies, None, shown, "", [CURL, "--version"])

    def load(self):
        self.storage.create(SOURCE)
        size = clinic.Loader(self.storage.url, *self.storage.keys, SOURCE).load(self.asked.objects)
        self.source = self.storage.listing(SOURCE)
        if len(self.source) != self.asked.objects:
            raise Failed(f"{self.asked.objects} objects were loaded and {len(self.source)} are there")
        return size

    def rounds(self):
        for number, tool in self.turns.rounds(self.chosen):
            bucket = f"{tool.name}-{number}"
            self.storage.create(bucket)
            for kind, command in ((FIRST, tool.first), (AGAIN, tool.again)):
                if command:
                    printed = self.turns.measure(kind, tool.name, number, command(SOURCE, bucket))
                    self.check(kind, tool, bucket, printed)
            if tool.again:
                self.mend(tool, number, bucket)
            self.storage.empty(bucket)

    def mend(self, tool, number, bucket):
        """Damages a copy of the source and has it made whole."""
        target, command = bucket, lambda: tool.again(SOURCE, bucket)
        if tool.restore:
            target = f"{bucket}-restored"
            self.storage.create(target)
            command = lambda: tool.restore(SOURCE, bucket, target)  # noqa: E731
            self.turns.run(tool.name, command())
        self.storage.damage(target, DAMAGED)
        self.turns.measure(MENDED, tool.name, number, command())
        listed = self.storage.listing(target)
        if listed != self.source:
            wrong = [key for key, what in self.source.items() if listed.get(key) != what]
            raise Failed(f"{tool.name}, {MENDED}: {len(wrong)} objects are not as in the source; {wrong[:3]}")
        if target != bucket:
            self.storage.empty(target)

    def check(self, kind, tool, bucket, printed):
        """What a tool took counts only when everything is there."""
        if complaint := tool.complaint(printed, kind == AGAIN):
            raise Failed(f"{tool.name}, {kind}: {complaint}")
        listed = self.storage.listing(bucket)
        there = {tool.original(key): what for key, what in listed.items() if tool.original(key)}
        if there != self.source:
            wrong = [key for key, what in self.source.items() if there.get(key) != what]
            extra = len(there.keys() - self.source.keys())
            raise Failed(f"{tool.name}, {kind}: {len(wrong)} objects are not as in the source, {extra} are too many; {wrong[:3]}")


def table(bench, kind):
    """The medians of one kind as Markdown, with nexus's share of each peer's."""
    lines = [
        "| tool | wall s | processor s | peak MiB | service s | others | nexus/it: wall | processor | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = bench.turns.taken.get((kind, "nexus"))
    for tool in bench.chosen:
        if (kind, tool.name) not in bench.turns.taken:
            continue
        taken = bench.turns.taken[kind, tool.name]
        processor, peak, service = (median(taken, each) for each in ("processor", "peak", "service"))
        used = f"{processor:.2f} | {peak / MIB:.0f} | {service:.2f} | {median(taken, 'others'):.0%}"
        lines.append(f"| {tool.name} | {spread(taken)} | {used} | {' | '.join(ratios(ours, tool.name, taken))} |")
    return lines


def verdicts(bench):
    """Each promise, and whether it is kept."""
    taken = bench.turns.taken
    lines = [line for target in TARGETS for line in share(taken, *target)]
    if (MENDED, "nexus") in taken:
        ratio = median(taken[MENDED, "nexus"], "seconds") / median(taken[AGAIN, "nexus"], "seconds")
        lines.append(
            f"- {MENDED}, wall time: {ratio:.2f} of its own second run, at most {MENDED_TO_AGAIN:.2f}: "
            f"{verdict(ratio <= MENDED_TO_AGAIN)}"
        )
    if (FIRST, "nexus") in taken:
        peak = max(each.peak for (_, name), all_taken in taken.items() if name == "nexus" for each in all_taken)
        highest = 100 if bench.asked.objects <= clinic.OBJECTS else 150
        kept = verdict(peak < highest * MIB)
        lines.append(f"- highest peak memory of nexus: {peak / MIB:.0f} MiB, below {highest}: {kept}")
    return lines


def report(bench, size, load_before):
    rounds = bench.asked.rounds
    lines = [
        f"{bench.asked.objects:,} objects, {size / 1e6:.0f} MB, on {bench.storage.name} on this machine"
        f"{late(bench.asked)}; medians of {rounds} round{'s' * (rounds > 1)}.",
        conditions(bench.turns, load_before),
        "`service`: processor seconds of the service meanwhile; `others`: the share of the machine that went to neither.",
        f"Tools: {', '.join(version(tool) for tool in bench.chosen)}.",
    ]
    for kind, shown in ((FIRST, "shown_first"), (AGAIN, "shown_again"), (MENDED, "shown_restore")):
        lines += ["", f"## {kind.capitalize()}", "", *table(bench, kind), ""]
        shows = [getattr(tool, shown) or tool.shown_again for tool in bench.chosen]
        lines += [f"    {show}" for show in shows if show]
    if promises := verdicts(bench):
        lines += ["", "## Targets", "", *promises]
    return "\n".join(lines)


def main():
    asked = arguments()

    def story(folder, stopping, load_before):
        storage = Storage(folder, stopping, asked.service, asked.latency)
        work = folder / "work"
        work.mkdir()
        bench = Bench(asked, storage, work)
        say(f"== loading {asked.objects:,} objects")
        size = bench.load()
        say("== measuring")
        bench.rounds()
        return report(bench, size, load_before)

    run(asked, story)


if __name__ == "__main__":
    main()
