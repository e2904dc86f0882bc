"""Loads every row of a Django site from files into empty tables in several ways in turns, and prints what each took.

Started by bench/run, which says what it needs and what it does.
"""

import json
import shlex
import shutil
import sqlite3
import subprocess
import sys

import clinic_rows
from postgres import Postgres
from records import DATABASE, POSTGRESQL, SQLITE, Bench as Rows
from turns import MIB, Failed, chosen, conditions, median, parsed, parser, ratios, run, say, spread

TARGET = "loaded"
WAYS = ["nexus", "copy", "loaddata"]
SHOWN = {
    "nexus": "nexus restore latest --only records --to-database TARGET --yes --no-safety-point, from a vault in a folder",
    "copy": r"PostgreSQL: psql -c '\copy TABLE from FILE csv', SQLite: sqlite3 TARGET '.import --csv FILE TABLE', for each table",
    "loaddata": "django-admin loaddata FILE",
}


def arguments():
    options = parser("bench/run load", "Loads rows with nexus and its peers and prints ratios.", rounds=1, timeout=1800)
    options.add_argument("--only", metavar="WAYS", help=f"only these, with commas: {', '.join(WAYS)}")
    options.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="in each database [1000000]")
    return parsed(options, "rows")


class Bench(Rows):
    """The rows of both databases, in files of each way, and targets without rows."""

    def __init__(self, asked, server, folder):
        ways, asked.only = chosen(asked, WAYS), None
        super().__init__(asked, server, folder)
        self.ways, self.target, self.empty = ways, folder / "target.sqlite3", folder / "empty.sqlite3"

    def site_of(self, kind, name):
        """How Django finds the site in another database of the same kind."""
        site = self.site(kind)
        database = json.loads(site["NEXUS_BENCH_SITE"]) | {"NAME": str(name)}
        return self.turns.environment | site | {"NEXUS_BENCH_SITE": json.dumps(database)}

    def django(self, kind, name, *words):
        subprocess.run(
            [sys.executable, "-m", "django", *words], env=self.site_of(kind, name), cwd=self.folder, check=True,
            stdout=subprocess.DEVNULL,
        )

    def url(self, kind, target):
        if kind == SQLITE:
            return str(self.target if target else self.sqlite)
        return self.server.url(TARGET if target else DATABASE)

    def flags(self, kind):
        config = self.folder / f"{kind}.toml"
        config.write_text(
            f'app = "bench"\n[database]\nurl = "{self.url(kind, False)}"\n[records]\nfolder = "{self.folder / kind}"\n'
            f'[vault]\nurl = "{self.folder / f"{kind}-vault"}"\n'
        )
        return ["--config", str(config)]

    def export(self, kind):
        """The files that each way loads."""
        backup = [str(self.turns.ours), "backup", "--only", "records", "--quiet", *self.flags(kind)]
        subprocess.run(backup, env=self.turns.environment, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        if "loaddata" in self.ways:
            self.django(kind, self.sqlite if kind == SQLITE else DATABASE, "dumpdata", "clinic", "--output", f"{kind}.json")
        for table in clinic_rows.COLUMNS if "copy" in self.ways else ():
            file = self.folder / f"{kind}-{table}.csv"
            if kind == SQLITE:
                command = ["sqlite3", "-readonly", "-csv", str(self.sqlite), f"select * from {table}"]
                with file.open("wb") as out:
                    subprocess.run(command, check=True, stdout=out)
            else:
                command = ["psql", "-X", "-q", "-d", DATABASE, "-c", f"\\copy {table} to '{file}' csv"]
                subprocess.run(command, env=self.turns.environment, check=True)

    def renew(self, kind):
        """The target's tables, without rows."""
        if kind == SQLITE:
            if not self.empty.exists():
                self.django(kind, self.empty, "migrate", "--run-syncdb", "--verbosity", "0")
            shutil.copy(self.empty, self.target)
            return
        with self.server.connect("postgres") as connection:
            connection.execute(f"drop database if exists {TARGET}")
        self.server.create(TARGET)
        self.django(kind, TARGET, "migrate", "--run-syncdb", "--verbosity", "0")

    def command(self, kind, way):
        if way == "nexus":
            flags = ["--to-database", self.url(kind, True), "--yes", "--no-safety-point", "--quiet", *self.flags(kind)]
            name = str(self.target) if kind == SQLITE else TARGET
            return [str(self.turns.ours), "restore", "latest", "--only", "records", *flags, "--confirm", name]
        if way == "loaddata":
            return [sys.executable, "-m", "django", "loaddata", f"{kind}.json"]
        lines = []
        for table in clinic_rows.COLUMNS:
            file = self.folder / f"{kind}-{table}.csv"
            if kind == SQLITE:
                lines.append(shlex.join(["sqlite3", str(self.target), f".import --csv {shlex.quote(str(file))} {table}"]))
            else:
                lines.append(shlex.join(["psql", "-X", "-q", "-d", TARGET, "-c", f"\\copy {table} from '{file}' csv"]))
        return ["/bin/bash", "-e", "-c", "\n".join(lines)]

    def counts(self, kind):
        if kind == POSTGRESQL:
            found = self.server.counts(TARGET)
            return {table: found[table] for table in clinic_rows.COLUMNS}
        with sqlite3.connect(self.target) as database:
            return {table: database.execute(f"select count(*) from {table}").fetchone()[0] for table in clinic_rows.COLUMNS}

    def rounds(self, wanted):
        for kind in (SQLITE, POSTGRESQL):
            say(f"== writing the files that are loaded, {kind}")
            self.export(kind)
            for number in range(1, self.asked.rounds + 1):
                for way in self.ways:
                    self.renew(kind)
                    self.turns.settle()
                    site = self.site_of(kind, self.target if kind == SQLITE else TARGET)
                    self.turns.measure(kind, way, number, self.command(kind, way), site)
                    if (there := self.counts(kind)) != wanted:
                        raise Failed(f"{way}, {kind}: {there} rows are there, not {wanted}")


def table(bench, kind):
    result = [
        "| way | wall s | rows/s | processor s | peak MiB | server s | others | nexus/it: wall | processor | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = bench.turns.taken.get((kind, "nexus"))
    for way in bench.ways:
        taken = bench.turns.taken[kind, way]
        processor, peak, service = (median(taken, each) for each in ("processor", "peak", "service"))
        rate, others = bench.asked.rows / median(taken, "seconds"), median(taken, "others")
        shares = " | ".join(ratios(ours, way, taken))
        result.append(
            f"| {way} | {spread(taken)} | {rate:,.0f} | {processor:.2f} | {peak / MIB:.0f} | {service:.2f} | {others:.0%} | {shares} |"
        )
    return result


def main():
    asked = arguments()

    def story(folder, stopping, load_before):
        server = Postgres(folder, stopping)
        work = folder / "work"
        work.mkdir()
        bench = Bench(asked, server, work)
        say(f"== making {asked.rows:,} rows in SQLite and in PostgreSQL")
        wanted = bench.load()
        bench.rounds(wanted)
        lines = [
            f"{sum(wanted.values()):,} rows of a Django site into empty tables, on this machine; medians of {asked.rounds} "
            f"round{'s' * (asked.rounds > 1)}.",
            conditions(bench.turns, load_before),
            "The whole command of nexus counts: every record file held against its hash before the first write, one transaction, foreign keys "
            "and what was written checked before it ends. `copy` checks none of that, and of SQLite it makes every value a text or a number.",
        ]
        for kind in (SQLITE, POSTGRESQL):
            lines += ["", f"## {kind}", "", *table(bench, kind)]
        lines += ["", *(f"    {way + ':':<10}{SHOWN[way]}" for way in bench.ways)]
        return "\n".join(lines)

    run(asked, story)


if __name__ == "__main__":
    main()
