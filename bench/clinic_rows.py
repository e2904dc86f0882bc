"""Makes a clinic's rows in the tables of the Django site in bench/site, the same in SQLite and in PostgreSQL.

Everything follows from the seed. Django makes the tables; the rows come by SQL, because its own way takes longer than
all that is measured.
"""

import datetime
import json
import random
import sqlite3
import uuid
from decimal import Decimal

from psycopg.types.json import Jsonb

SEED = 20_251_115
BEGUN = datetime.datetime(2016, 1, 1, 7, 30, tzinfo=datetime.timezone.utc)
FIRST_NAMES = ["John", "Zoë", "Łukasz", "Anaïs", "O'Brien", "李", "Marie Claire", "Jürgen"]
LAST_NAMES = ["Smith", "Müller", "D'Angelo", "Nuñez", "van der Berg", "佐藤", 'Quo"te', "Back\\slash"]
KINDS = ["control", "first visit", "emergency", "Überweisung"]
UNITS = ["mmol/l", "mg/dl", "g/l", "%"]
SENTENCES = [
    "Comes for a control.", "No complaints.", "Blood pressure as before.", "Pain in the left knee since Monday.",
    "Continue with 5 mg daily.", "Reports \"pressure\" behind the eyes.", "Allergic to penicillin.\nSee the letter.",
    "Wiedervorstellung in 3 Monaten.", "Referred to radiology.", "Vaccination is complete.",
]
# Columns in their order, without the id, which counts from 1.
COLUMNS = {
    "clinic_patient": (
        "number", "first_name", "last_name", "born", "balance", "weight", "notes", "intake", "is_active", "changed_at",
    ),
    "clinic_visit": ("patient_id", "begins", "room", "kind", "note", "fee", "is_paid"),
    "clinic_result": ("patient_id", "code", "value", "unit", "taken_at", "flags"),
    "clinic_document": ("patient_id", "title", "file", "fingerprint", "bytes", "added_on"),
}


def moment(seconds, dice):
    return BEGUN + datetime.timedelta(seconds=seconds, microseconds=dice.randrange(1_000_000))


def money(dice):
    return Decimal(dice.randrange(90_000)) / 100


def prose(dice, most):
    return " ".join(dice.choices(SENTENCES, k=dice.randint(0, most)))


def patient(number, _patients, dice):
    intake = {"smoker": number % 5 == 0, "score": dice.randrange(100) / 8, "allergies": ["penicillin"] * (number % 3)}
    return (
        uuid.UUID(int=dice.getrandbits(128)), dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES),
        None if number % 11 == 0 else datetime.date(1930, 1, 1) + datetime.timedelta(days=dice.randrange(32_000)),
        money(dice), None if number % 5 == 0 else 40 + 80 * dice.random(), prose(dice, 3), intake,
        number % 9 != 0, moment(number * 97, dice),
    )


def visit(number, patients, dice):
    return (
        dice.randint(1, patients), moment(number * 71, dice), None if number % 7 == 0 else number % 40,
        dice.choice(KINDS), prose(dice, 6), money(dice), number % 7 != 0,
    )


def result(number, patients, dice):
    return (
        dice.randint(1, patients), f"LOINC-{dice.randrange(1_000, 1_180)}",
        None if number % 50 == 0 else dice.randrange(20_000) / 100, dice.choice(UNITS), moment(number * 53, dice),
        number % 16 or None,
    )


def document(number, patients, dice):
    return (
        dice.randint(1, patients), f"{dice.choice(KINDS)} {number}",
        f"documents/2024/{number % 12:02}/scan_{number:07}.pdf",
        dice.randbytes(32), dice.randrange(2_000_000), (BEGUN + datetime.timedelta(hours=number % 80_000)).date(),
    )


def tables(count):
    """Each table with its rows, about a quarter of `count` each."""
    quarter = count // 4
    patients = count - 3 * quarter
    makers = [patient, visit, result, document]
    for (name, columns), make, rows in zip(COLUMNS.items(), makers, [patients, quarter, quarter, quarter]):
        # Of each table its own, so that a column more in one leaves the others as they were.
        dice = random.Random(f"{SEED}{name}")
        yield name, columns, rows, (make(number, patients, dice) for number in range(1, rows + 1))


def for_sqlite(value):
    """A value as Django stores it in SQLite."""
    match value:
        case uuid.UUID():
            return value.hex
        case datetime.datetime():
            return str(value.replace(tzinfo=None))
        case datetime.date() | Decimal():
            return str(value)
        case dict():
            return json.dumps(value)
    return value


def fill_sqlite(path, count):
    """Answers the rows of each table."""
    made = {}
    connection = sqlite3.connect(path)
    with connection:
        for name, columns, rows, all_values in tables(count):
            marks = ", ".join("?" * len(columns))
            insert = f"insert into {name} ({', '.join(columns)}) values ({marks})"
            connection.executemany(insert, (tuple(map(for_sqlite, values)) for values in all_values))
            made[name] = rows
    connection.execute("analyze")
    connection.commit()
    connection.close()
    return made


def fill_postgres(connection, count):
    """Answers the rows of each table."""
    made = {}
    for name, columns, rows, all_values in tables(count):
        with connection.cursor().copy(f"copy {name} ({', '.join(columns)}) from stdin") as copy:
            for values in all_values:
                copy.write_row([Jsonb(value) if isinstance(value, dict) else value for value in values])
        made[name] = rows
    connection.execute("vacuum analyze")
    connection.execute("checkpoint")
    return made
