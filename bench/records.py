"""Writes every row of a Django site as JSON in several ways in turns, and prints what each took, and nexus's share.

Started by bench/run, which says what it needs and what it does.
"""

import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from typing import Callable

import django

import clinic_rows
import postgres
from postgres import Postgres
from tools import environment
from turns import MIB, ROOT, Failed, Turns, caveat, chosen, conditions, median, parsed, parser, ratios, run, say, share
from turns import spread, verdict

DATABASE = "bench"
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
WAYS = ["nexus", "json_object", "json", "psql", "dumpdata"]
MEMORY_MIB = 64
TIMES_DUMPDATA = 25

# What is promised of nexus: with which database, of which measure, beside which way, and the highest ratio.
TARGETS = [
    (SQLITE, "seconds", ("json_object",), 1.0),
    (POSTGRESQL, "seconds", ("psql",), 0.7),
]


@dataclass(frozen=True)
class Way:
    """A way to write all rows; `command` makes its command from the name of a folder that is its own."""

    name: str
    command: Callable[[object], list[str]]
    # The command as a reader types it.
    shown: str
    # Rows of each table, told from the folder and what was printed.
    rows: Callable[[object, str], dict[str, int]]


def arguments():
    description = "Writes rows as JSON with nexus and its peers and prints ratios."
    options = parser("bench/run records", description, timeout=1800)
    options.add_argument("--only", metavar="WAYS", help=f"only these, with commas: {', '.join(WAYS)}")
    options.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="in each database [1000000]")
    return parsed(options, "rows")


def lines(path):
    with path.open("rb") as file:
        return sum(1 for _ in file)


def occurrences(path, word):
    count, before = 0, b""
    with path.open("rb") as file:
        while piece := file.read(MIB):
            # With as much of what came before as has no whole word in it.
            count += (before[1 - len(word) :] + piece).count(word)
            before = piece
    return count


def nexus(ours, database):
    def command(folder):
        config = folder / "nexus.toml"
        config.write_text('[records]\nvault = false\nfolder = "records"\n')
        flags = ["--config", config, "--app", "bench", "--database", database, "--vault", folder / "vault"]
        return list(map(str, [ours, "backup", "--only", "records", *flags, "--json", "--quiet"]))

    def rows(folder, printed):
        made = json.loads(printed)
        if made["verdict"] != "verified":
            raise Failed(f"nexus: the verdict is {made['verdict']}")
        place = folder / "records" / made["manifest"]["point"]
        files = {each["table"]: each["file"] for each in made["manifest"]["parts"]["records"]["tables"]}
        # The first line of a file opens the array and the last one closes it.
        return {table: lines(place / files[table]) - 2 for table in clinic_rows.COLUMNS}

    return Way("nexus", command, "nexus backup --only records --database DATABASE --vault FOLDER --records FOLDER, the vault without them: [records] vault = false", rows)


def dumpdata():
    beginnings = {table: f'{{"model": "{table.replace("_", ".")}", '.encode() for table in clinic_rows.COLUMNS}

    def command(folder):
        return [sys.executable, "-m", "django", "dumpdata", "--output", str(folder / "rows.json")]

    def rows(folder, _printed):
        # It is one line, so that its objects are counted by how they begin.
        return {table: occurrences(folder / "rows.json", begun) for table, begun in beginnings.items()}

    return Way("dumpdata", command, "django-admin dumpdata --output FILE", rows)


def a_file_each(name, shown, each):
    """A way that makes a file of each table with a command of its own, one after the other."""

    def command(folder):
        commands = [each(table, folder / f"{table}.json") for table in clinic_rows.COLUMNS]
        return ["/bin/bash", "-e", "-c", "\n".join(commands)]

    def rows(folder, _printed):
        return {table: lines(folder / f"{table}.json") for table in clinic_rows.COLUMNS}

    return Way(name, command, shown, rows)


def of_sqlite(ours, path):
    """The ways to write the rows of a SQLite database."""

    def query(flags, select, file):
        return f"{shlex.join(['sqlite3', '-readonly', *flags, str(path), select])} >{shlex.quote(str(file))}"

    def columns(table):
        """Each column's name, and what is selected for it: JSON cannot hold a blob."""
        names = ("id", *clinic_rows.COLUMNS[table])
        return [(name, f"hex({name})" if name == "fingerprint" else name) for name in names]

    def as_object(table, file):
        fields = ", ".join(f"'{name}', {value}" for name, value in columns(table))
        return query([], f"select json_object({fields}) from {table}", file)

    def as_json(table, file):
        fields = ", ".join(f"{value} as {name}" for name, value in columns(table))
        return query(["-json"], f"select {fields} from {table}", file)

    shown_object = "sqlite3 DATABASE 'select json_object(…) from TABLE' >FILE, for each table"
    shown_json = "sqlite3 -json DATABASE 'select … from TABLE' >FILE, for each table"
    return [
        nexus(ours, path),
        a_file_each("json_object", shown_object, as_object),
        a_file_each("json", shown_json, as_json),
        dumpdata(),
    ]


def of_postgres(ours, url):
    """The ways to write the rows of a PostgreSQL database."""

    def as_json(table, file):
        copy = f"\\copy (select row_to_json(t) from {table} t) to '{file}'"
        return shlex.join(["psql", "-X", "-q", "-d", DATABASE, "-c", copy])

    shown = r"psql -c '\copy (select row_to_json(t) from TABLE t) to FILE', for each table"
    return [nexus(ours, url), a_file_each("psql", shown, as_json), dumpdata()]


class Bench:
    """Both databases with the same rows, and runs of ways to write them."""

    def __init__(self, asked, server, folder):
        self.asked, self.server, self.folder = asked, server, folder
        self.turns = Turns(asked, folder, [server], environment("", "", "", folder) | server.variables())
        self.sqlite = folder / "db.sqlite3"
        names = chosen(asked, WAYS)
        found = {
            SQLITE: of_sqlite(self.turns.ours, self.sqlite),
            POSTGRESQL: of_postgres(self.turns.ours, server.url(DATABASE)),
        }
        self.chosen = {kind: [way for way in ways if way.name in names] for kind, ways in found.items()}
        self.bytes = {}

    def site(self, kind):
        """How Django finds the site and its database."""
        login = self.server.variables()
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.sqlite)}
        if kind == POSTGRESQL:
            names = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD"}
            database = {"ENGINE": "django.db.backends.postgresql", "NAME": DATABASE}
            database |= {key: login[variable] for key, variable in names.items()}
        return {
            "PYTHONPATH": str(ROOT / "bench/site"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "settings",
            "NEXUS_BENCH_SITE": json.dumps(database),
        }

    def load(self):
        self.server.create(DATABASE)
        for kind in (SQLITE, POSTGRESQL):
            migrate = [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"]
            subprocess.run(migrate, env=self.turns.environment | self.site(kind), cwd=self.folder, check=True)
        made = clinic_rows.fill_sqlite(self.sqlite, self.asked.rows)
        with self.server.connect(DATABASE) as connection:
            if clinic_rows.fill_postgres(connection, self.asked.rows) != made:
                raise Failed("the two databases have not the same number of rows")
        return made

    def rounds(self, wanted):
        for kind, ways in self.chosen.items():
            for number, way in self.turns.rounds(ways):
                place = self.folder / f"{kind}-{way.name}-{number}"
                place.mkdir()
                printed = self.turns.measure(kind, way.name, number, way.command(place), self.site(kind))
                # What a way took counts only when every row is there.
                if (there := way.rows(place, printed)) != wanted:
                    raise Failed(f"{way.name}, {kind}: {there} rows are there, not {wanted}")
                self.bytes[kind, way.name] = sum(path.stat().st_size for path in place.rglob("*.json"))
                shutil.rmtree(place)


def table(bench, kind):
    """The medians of one kind as Markdown, with nexus's share of each peer's."""
    result = [
        "| way | wall s | rows/s | processor s | peak MiB | JSON MB | temporary MB | server s | others "
        "| nexus/it: wall | processor | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = bench.turns.taken.get((kind, "nexus"))
    for way in bench.chosen[kind]:
        taken = bench.turns.taken[kind, way.name]
        processor, peak, service = (median(taken, each) for each in ("processor", "peak", "service"))
        rate = f"{bench.asked.rows / median(taken, 'seconds'):,.0f}"
        written, scratch = bench.bytes[kind, way.name] / 1e6, median(taken, "scratch") / 1e6
        used = f"{processor:.2f} | {peak / MIB:.0f} | {written:.0f} | {scratch:.0f} | {service:.2f}"
        shares = " | ".join(ratios(ours, way.name, taken))
        result.append(f"| {way.name} | {spread(taken)} | {rate} | {used} | {median(taken, 'others'):.0%} | {shares} |")
    return result


def verdicts(bench):
    """Each promise, and whether it is kept."""
    taken, result = bench.turns.taken, []
    for kind in bench.chosen:
        ours, theirs = taken.get((kind, "nexus")), taken.get((kind, "dumpdata"))
        if ours and theirs:
            times = median(theirs, "seconds") / median(ours, "seconds")
            kept = verdict(times >= TIMES_DUMPDATA) + caveat(ours, theirs)
            result.append(f"- {kind}, rows a second: {times:.1f} times dumpdata's, at least {TIMES_DUMPDATA}: {kept}")
    result += [line for target in TARGETS for line in share(taken, *target)]
    if peaks := [each.peak for (_, name), all_taken in taken.items() if name == "nexus" for each in all_taken]:
        kept = verdict(max(peaks) < MEMORY_MIB * MIB)
        result.append(f"- highest peak memory of nexus: {max(peaks) / MIB:.0f} MiB, below {MEMORY_MIB}: {kept}")
    return result


def programs(bench):
    """What took part, each with its version."""
    found = [f"Django {django.get_version()}", postgres.version("psql"), postgres.version("postgres")]
    cli = subprocess.run(["sqlite3", "--version"], capture_output=True, text=True, check=True).stdout
    found.append(f"sqlite3 {cli.split()[0]} (Django's is {sqlite3.sqlite_version})")
    if bench.turns.ours.exists():
        ours = subprocess.run([bench.turns.ours, "--version"], capture_output=True, text=True, check=True).stdout
        found.insert(0, ours.strip())
    return ", ".join(found)


def report(bench, wanted, size, load_before):
    rounds = bench.asked.rounds
    each = ", ".join(f"{count:,} in {table}" for table, count in wanted.items())
    result = [
        f"{sum(wanted.values()):,} rows ({each}) of a Django site, in SQLite "
        f"({bench.sqlite.stat().st_size / 1e6:.0f} MB) and in PostgreSQL {postgres.MAJOR} on this machine "
        f"({size / 1e6:.0f} MB, without fsync); "
        f"medians of {rounds} round{'s' * (rounds > 1)}.",
        conditions(bench.turns, load_before),
        "`processor` and `peak` are the clients': the time of all processes, the memory of the largest; `temporary`: "
        "the most that the folder for temporary files held; `server`: processor seconds of PostgreSQL meanwhile; "
        "`others`: the share of the machine that went to neither.",
        "The whole command of nexus counts: holding the database still (of SQLite: a private copy, and its check), the "
        "hashes, the sync to the disk, the commit, and the verification afterwards. The peers do none of that: "
        "`json_object` cuts reals to 15 digits, and what `\\copy` writes is JSON only once its doubled backslashes are "
        "undone.",
        f"Programs: {programs(bench)}.",
    ]
    for kind, ways in bench.chosen.items():
        result += ["", f"## {kind}", "", *table(bench, kind), ""]
        result += [f"    {way.name + ':':<13}{way.shown}" for way in ways]
    if promises := verdicts(bench):
        result += ["", "## Targets", "", *promises]
    return "\n".join(result)


def main():
    asked = arguments()

    def story(folder, stopping, load_before):
        server = Postgres(folder, stopping)
        work = folder / "work"
        work.mkdir()
        bench = Bench(asked, server, work)
        say(f"== making {asked.rows:,} rows in SQLite and in PostgreSQL")
        wanted = bench.load()
        say("== measuring")
        bench.rounds(wanted)
        return report(bench, wanted, server.size(DATABASE), load_before)

    run(asked, story)


if __name__ == "__main__":
    main()
