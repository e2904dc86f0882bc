"""Looks up one record, searches a table and follows a record over many points, beside `aws s3 cp` and `jq`.

Started by bench/run, which says what it needs and what it does.
"""

import json
import shlex
import shutil
import sqlite3

from s3 import Storage
from tools import REGION, environment
from turns import MIB, ROOT, Failed, Turns, chosen, conditions, median, parsed, parser, run, say, verdict

GET, FIND, HISTORY = "get one record", "find in one point", "history over all points"
LARGE, SMALL = "large", "small"
WAYS = ["nexus", "aws"]
# What is promised of nexus.
REQUESTS, BYTES, PEAK = 10, 1_000_000, 128 * MIB


def arguments():
    options = parser("bench/run lookup", "Looks records up in points, beside aws s3 cp and jq.", rounds=1, timeout=900)
    options.add_argument("--only", metavar="WAYS", help=f"only these, with commas: {', '.join(WAYS)}")
    options.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="in the point of get and find [1000000]")
    options.add_argument("--points", type=int, default=100, metavar="N", help="that history looks at [100]")
    options.add_argument("--history-rows", type=int, default=100_000, metavar="N", help="in each of them [100000]")
    return parsed(options, "rows", "points", "history_rows")


def fill(path, rows):
    with sqlite3.connect(path) as database:
        database.executescript(
            f"""CREATE TABLE patient (id INTEGER PRIMARY KEY, name TEXT, born TEXT, email TEXT, note TEXT);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
            INSERT INTO patient SELECT i, 'Patient ' || i, date('1930-01-01', (i % 30000) || ' days'),
              'patient' || i || '@example.com', 'a note that is as long as notes are, about patient ' || i FROM n;"""
        )
    database.close()


class Bench:
    def __init__(self, asked, storage, folder):
        self.asked, self.storage, self.folder = asked, storage, folder
        self.turns = Turns(asked, folder, [storage], environment(storage.url, *storage.keys, folder))
        self.aws = ROOT / ".bench-env/bin/aws"
        self.costs, self.points = {}, {}

    def flags(self, kind):
        config = self.folder / f"{kind}.toml"
        if not config.exists():
            config.write_text(
                f'app = "bench"\n[database]\nurl = "{self.folder / kind}.db"\n[records]\nvault = true\n'
                f'[vault]\nurl = "s3://{kind}"\n'
            )
        return ["--config", str(config), "--endpoint", self.storage.url, "--region", REGION]

    def back_up(self, kind):
        self.turns.run("nexus backup", [str(self.turns.ours), "backup", "--only", "records", "--quiet", *self.flags(kind)])

    def make(self):
        for kind, rows in ((LARGE, self.asked.rows), (SMALL, self.asked.history_rows)):
            fill(self.folder / f"{kind}.db", rows)
            self.storage.create(kind)
        say(f"== one point of {self.asked.rows:,} rows, and {self.asked.points} of {self.asked.history_rows:,}")
        self.back_up(LARGE)
        for number in range(self.asked.points):
            # Every third point shows the record otherwise than the one before.
            with sqlite3.connect(self.folder / f"{SMALL}.db") as database:
                database.execute(
                    "UPDATE patient SET note = ? WHERE id = ?", (f"state {number // 3}", self.asked.history_rows // 2)
                )
            database.close()
            self.back_up(SMALL)
        for kind in (LARGE, SMALL):
            keys = sorted(key for key in self.storage.listing(kind) if key.endswith("/records/patient.json"))
            self.points[kind] = keys

    def ours(self, kind, verb, *words):
        printed = self.turns.measure(
            kind, "nexus", 1, [str(self.turns.ours), verb, *words, "--json", "--quiet", *self.flags(SMALL if kind == HISTORY else LARGE)]
        )
        told = json.loads(printed)
        self.costs[kind] = told["cost"]
        return told

    def theirs(self, kind, bucket, keys, test):
        copy = f"{self.aws} s3 cp --quiet --endpoint-url {self.storage.url} s3://{bucket}"
        script = "; ".join(f"{copy}/{key} - | jq -c {shlex.quote(f'.[] | select({test})')}" for key in keys)
        printed = self.turns.measure(kind, "aws", 1, [shutil.which("bash"), "-ec", f"set -o pipefail; {script}"])
        return [json.loads(line) for line in printed.splitlines()]

    def rounds(self, ways):
        wanted, followed = self.asked.rows * 3 // 4, self.asked.history_rows // 2
        test = f'.name | test("{wanted % 10000}$")'
        states = -(-self.asked.points // 3)
        for _, way in self.turns.rounds(ways):
            if way == "nexus":
                got = self.ours(GET, "get", "--table", "patient", "--pk", str(wanted))["record"]
                found = self.ours(FIND, "find", "patient", f"name~{wanted % 10000}$")["points"][0]["tables"][0]["records"]
                seen = len(self.ours(HISTORY, "history", "patient", str(followed))["states"])
            else:
                got = self.theirs(GET, LARGE, self.points[LARGE], f".id == {wanted}")[0]
                found = self.theirs(FIND, LARGE, self.points[LARGE], test)
                told = self.theirs(HISTORY, SMALL, self.points[SMALL], f".id == {followed}")
                seen = len({record["note"] for record in told})
            if got["id"] != wanted or seen != states or not all(record["name"].endswith(str(wanted % 10000)) for record in found):
                raise Failed(f"{way} found {got}, {len(found)} records and {seen} states, not {states}")

    def size(self, kind):
        listing = self.storage.listing(kind)
        index = sum(size for key, (size, _) in listing.items() if key.endswith(".index"))
        return sum(listing[key][0] for key in self.points[kind]), index


def report(bench, load_before):
    asked, taken = bench.asked, bench.turns.taken
    sizes = {kind: bench.size(kind) for kind in (LARGE, SMALL)}
    lines = [
        f"One point of {asked.rows:,} rows ({sizes[LARGE][0] / 1e6:.0f} MB of JSON, {sizes[LARGE][1] / 1e6:.1f} MB of index) and "
        f"{asked.points} points of {asked.history_rows:,} rows ({sizes[SMALL][0] / 1e6:.0f} MB, {sizes[SMALL][1] / 1e6:.1f} MB), in "
        f"{bench.storage.name} on this machine; medians of {asked.rounds} round{'s' * (asked.rounds > 1)}.",
        conditions(bench.turns, load_before),
        "Bytes and requests of nexus are those for records and indexes; to find a point costs some small documents besides.",
        "",
        "| run | way | wall s | processor s | peak MiB | requests | MB read | others | nexus/it: wall |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind in (GET, FIND, HISTORY):
        for way in WAYS:
            if (kind, way) not in taken:
                continue
            all_taken, ours = taken[kind, way], taken.get((kind, "nexus"))
            cost = bench.costs.get(kind, {})
            of = SMALL if kind == HISTORY else LARGE
            requests, read = (cost["requests"], cost["bytes"]) if way == "nexus" else (len(bench.points[of]), sizes[of][0])
            ratio = f"{median(ours, 'seconds') / median(all_taken, 'seconds'):.3f}" if ours and way != "nexus" else ""
            cells = [
                kind, way, f"{median(all_taken, 'seconds'):.2f}", f"{median(all_taken, 'processor'):.2f}",
                f"{median(all_taken, 'peak') / MIB:.0f}", f"{requests:,}", f"{read / 1e6:.2f}",
                f"{median(all_taken, 'others'):.0%}", ratio,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "    aws: aws s3 cp s3://BUCKET/KEY - | jq -c '.[] | select(…)', for each point", ""]
    if bench.costs:
        cost = bench.costs[GET]
        kept = cost["requests"] < REQUESTS and cost["bytes"] < BYTES
        lines.append(f"- {GET}: {cost['requests']} requests, {cost['bytes']:,} bytes, below {REQUESTS} and {BYTES:,}: {verdict(kept)}")
        peak = max(each.peak for (kind, way), all_taken in taken.items() if way == "nexus" for each in all_taken)
        lines.append(f"- highest peak memory of nexus: {peak / MIB:.0f} MiB, below {PEAK / MIB:.0f}: {verdict(peak < PEAK)}")
    return "\n".join(lines)


def main():
    asked = arguments()

    def story(folder, stopping, load_before):
        ways = chosen(asked, WAYS)
        if "aws" in ways and not shutil.which("jq"):
            raise Failed("jq is not installed: apt-get install jq, or --only nexus")
        service, work = folder / "service", folder / "work"
        service.mkdir()
        work.mkdir()
        bench = Bench(asked, Storage(service, stopping), work)
        bench.make()
        bench.rounds(ways)
        return report(bench, load_before)

    run(asked, story)


if __name__ == "__main__":
    main()
