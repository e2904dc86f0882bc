"""A throwaway PostgreSQL 15 of Debian's packages, and a clinic's database of any size in it.

The server does not sync, so that a bench waits for no disk.
"""

import os
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from turns import Failed, postgresql, servers

MAJOR = "15"
PROGRAMS = Path(f"/usr/lib/postgresql/{MAJOR}/bin")
# The tests' clusters have unusual ones.
SETTINGS = {"timezone": "UTC", "datestyle": "ISO, MDY", "intervalstyle": "postgres", "bytea_output": "hex"}
SETTINGS |= {"extra_float_digits": "1", "autovacuum": "off", "max_wal_size": "4GB"}


class Postgres:
    """A running server; `child` is its first process."""

    def __init__(self, folder, stopping):
        if not (PROGRAMS / "initdb").exists():
            raise Failed(f"{PROGRAMS}/initdb is not here: install Debian's package postgresql-{MAJOR}")
        # It runs as another user when this is root, who has to get through to the folder of its own.
        folder.chmod(0o711)
        (self.port,) = servers.free_ports(1)
        place = folder / "postgresql"
        cluster = postgresql.Cluster(MAJOR, PROGRAMS, place, self.port, servers.die_with_parent)
        stopping.callback(cluster.stop)
        cluster.wait_until_it_answers()
        self.child = cluster.child
        with self.connect("postgres") as connection:
            for name, value in SETTINGS.items():
                connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            connection.execute("select pg_reload_conf()")

    def connect(self, database):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=postgresql.SUPERUSER, password=postgresql.PASSWORD,
            dbname=database, autocommit=True,
        )

    def create(self, database):
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))

    def url(self, database):
        """It has no password in it: that is a variable."""
        return f"postgres://{postgresql.SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def variables(self):
        """How its own programs find it, and where they are."""
        return {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": postgresql.SUPERUSER,
            "PGPASSWORD": postgresql.PASSWORD,
        }

    def size(self, database):
        with self.connect(database) as connection:
            return connection.execute("select pg_database_size(current_database())").fetchone()[0]

    def counts(self, database):
        """Rows of each table."""
        with self.connect(database) as connection:
            tables = connection.execute(
                "select table_name from information_schema.tables where table_schema = 'public' order by 1"
            ).fetchall()
            count = sql.SQL("select count(*) from {}")
            return {name: connection.execute(count.format(sql.Identifier(name))).fetchone()[0] for (name,) in tables}


def version(program):
    """What one of its programs says of itself, without who built it."""
    said = subprocess.run([PROGRAMS / program, "--version"], capture_output=True, text=True, check=True).stdout
    return said.split(" (Debian", 1)[0].replace("(PostgreSQL) ", "").strip()


# Rows of each table for each megabyte of the database, indexes included; more than half of it is in visits.
ROWS = {"patients": 400, "visits": 1_600, "results": 1_000, "documents": 300, "audit": 560}
SEED = 0.20251115
SYLLABLES = "ab er lin dor mas tek vin sol ra pe cor nal ti gen os mer".split()
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES]


def words(count):
    """An expression: so many words with blanks between them."""
    word = f"(array{WORDS})[1 + floor(random() * {len(WORDS)})::int]"
    return "concat_ws(' ', " + ", ".join([word] * count) + ")"


# Of each table: its columns, and how a row with the number n of `rows` comes about.
TABLES = {
    "patients": (
        "id bigint primary key, number uuid not null unique, first_name text not null, last_name text not null, "
        "born date, insured text, weight real, intake jsonb not null, changed_at timestamptz not null",
        f"n, md5(n::text)::uuid, {words(1)}, {words(1)}, '1930-01-01'::date + (random() * 32000)::int, "
        f"(array['public', 'private', null])[1 + n % 3], 40 + 80 * random(), "
        f"jsonb_build_object('allergies', {words(2)}, 'smoker', n % 5 = 0, 'history', {words(8)}), "
        "'2024-01-01'::timestamptz + n * interval '97 seconds'",
    ),
    "visits": (
        "id bigint primary key, patient bigint not null, room smallint, doctor text not null, "
        "begins timestamptz not null, ends timestamptz not null, kind text not null, note text not null, "
        "fee numeric(9, 2), paid boolean not null",
        f"n, 1 + floor(random() * {{patients}}), n % 40, 'doctor-' || n % 23, "
        "'2016-01-01'::timestamptz + n * interval '71 seconds', "
        "'2016-01-01'::timestamptz + n * interval '71 seconds' + interval '20 minutes', "
        f"(array['control', 'first visit', 'emergency', 'vaccination'])[1 + n % 4], {words(30)}, "
        "(random() * 500)::numeric(9, 2), n % 7 <> 0",
    ),
    "results": (
        "id bigint primary key, patient bigint not null, code text not null, value double precision, "
        "unit text not null, taken_at timestamptz not null, flags int",
        f"n, 1 + floor(random() * {{patients}}), 'LOINC-' || 1000 + n % 180, round((random() * 200)::numeric, 2), "
        "(array['mmol/l', 'mg/dl', 'g/l', '%'])[1 + n % 4], '2016-01-01'::timestamptz + n * interval '53 seconds', "
        "nullif(n % 16, 0)",
    ),
    "documents": (
        "id bigint primary key, patient bigint not null, title text not null, file text not null unique, "
        "sha256 bytea not null, bytes bigint not null, added_at timestamptz not null",
        f"n, 1 + floor(random() * {{patients}}), {words(4)}, 'documents/2024/' || n % 12 || '/scan_' || n || '.pdf', "
        "sha256(n::text::bytea), floor(random() * 2000000), '2020-01-01'::timestamptz + n * interval '211 seconds'",
    ),
    "audit": (
        "id bigint primary key, at timestamptz not null, who text not null, what text not null, detail jsonb",
        "n, '2023-01-01'::timestamptz + n * interval '7 seconds', 'user-' || n % 31, "
        "(array['opened', 'changed', 'printed', 'signed'])[1 + n % 4] || ' visit ' || floor(random() * {visits}), "
        f"jsonb_build_object('from', {words(2)}, 'to', {words(2)}, 'session', md5((n / 40)::text))",
    ),
}
INDEXES = "create index on visits (patient, begins); create index on results (patient); create index on audit (at)"


def fill(server, database, megabytes):
    """Makes a clinic's database of about so many megabytes; the same number gives the same rows."""
    rows = {name: count * megabytes for name, count in ROWS.items()}
    server.create(database)
    with server.connect(database) as connection:
        connection.execute("select setseed(%s)", (SEED,))
        for name, (columns, row) in TABLES.items():
            connection.execute(f"create table {name} ({columns})")
            numbers = f"generate_series(1, {rows[name]}) n"
            connection.execute(f"insert into {name} select {row.format(**rows)} from {numbers}")
        connection.execute(INDEXES)
        connection.execute("vacuum analyze")
        # What was written goes to the disk now, not while something is measured.
        connection.execute("checkpoint")
