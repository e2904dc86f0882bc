"""A real Django site with data in it.

    python django_site.py make FOLDER FILES [--wal]    makes FOLDER/db.sqlite3 and FOLDER/media
    python django_site.py view FOLDER                  what the site itself sees in them now

Both print one JSON document. The same FILES give the same rows and the same bytes.
"""

import datetime
import json
import os
import sys
import time
import uuid
from pathlib import Path
from unittest import mock

NOW = datetime.datetime(2025, 11, 15, 6, 42, 33, tzinfo=datetime.timezone.utc)
PASSWORD = "correct horse battery staple"
PATIENTS = 120
TAGS = ["recall", "Überweisung", "naïve", "urgent", "日本語"]
FIRST_NAMES = ["John", "Zoë", "Łukasz", "Anaïs", "O'Brien", "李", "Marie Claire", "Jürgen"]
LAST_NAMES = ["Smith", "Müller", "D'Angelo", "Nuñez", "van der Berg", "佐藤", 'Quo"te', "Back\\slash"]


def set_up(folder):
    sys.path.insert(0, str(Path(__file__).parent / "site"))
    os.environ["NEXUS_SITE"] = str(folder)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    import django
    from django.utils import timezone

    # Before any module takes a copy of it: migrations and rows are then of the same moment always.
    timezone.now = lambda: NOW
    django.setup()


def make(folder, files, wal):
    from django.core.management import call_command
    from django.db import connection, transaction

    call_command("migrate", verbosity=0)
    with transaction.atomic():
        doctors = make_users()
        patients = make_patients(doctors)
        dangling, orphaned = make_files(patients, files)
    if wal:
        connection.cursor().execute("PRAGMA journal_mode=WAL")
    connection.close()
    return {"dangling": dangling, "orphaned": orphaned}


def make_users():
    from django.contrib.auth.hashers import make_password
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session

    users = []
    for number, name in enumerate(["admin", "doctor", "zoë"]):
        hashed = make_password(PASSWORD, salt=f"fixedsaltforuser{number:06d}")
        user = User.objects.create(
            username=name, password=hashed, is_superuser=number == 0, is_staff=True, date_joined=NOW
        )
        users.append(user)
        with mock.patch.object(time, "time", NOW.timestamp):  # The signature has the time in it.
            signed = SessionStore().encode({"_auth_user_id": str(user.pk), "basket": [1, "ü", None]})
        expires = NOW + datetime.timedelta(days=365 * 50)
        Session.objects.create(session_key=f"session{number:025d}", session_data=signed, expire_date=expires)
    return users


def make_patients(doctors):
    from clinic.models import Patient, Tag

    tags = [Tag.objects.create(name=name) for name in TAGS]
    patients = []
    for number in range(PATIENTS):
        patient = Patient.objects.create(
            number=uuid.UUID(int=number * 7919 + 1),
            first_name=FIRST_NAMES[number % len(FIRST_NAMES)],
            last_name=LAST_NAMES[number // 3 % len(LAST_NAMES)],
            born=None if number % 11 == 0 else datetime.date(1940, 1, 1) + datetime.timedelta(days=number * 197),
            balance=f"{number * 13 % 9000}.{number % 100:02d}",
            weight=None if number % 5 == 0 else 50 + number / 7,
            notes="" if number % 4 else f"Line one of {number}\nline two\twith a tab, “quotes” and 😀",
            intake={"allergies": ["penicillin"] * (number % 3), "smoker": number % 2 == 0, "score": number / 3},
            fingerprint=None if number % 6 else bytes((number * step) % 256 for step in range(64)),
            is_active=number % 9 != 0,
            changed_at=NOW - datetime.timedelta(seconds=number * 4111, microseconds=number * 37),
            doctor=doctors[number % len(doctors)],
        )
        patient.tags.set([tags[number % len(tags)], tags[(number + 2) % len(tags)]])
        patients.append(patient)
    return patients


def file_of(number):
    """The name and the bytes of one file; every fifth name came with an import and not through Django."""
    import media_files

    words = f"Report {number} of the clinic"
    kinds = [
        ("pdf", lambda: media_files.pdf(words)),
        ("jpg", lambda: media_files.image(number, "JPEG")),
        ("png", lambda: media_files.image(number, "PNG")),
        ("docx", lambda: media_files.docx(words)),
        ("txt", lambda: media_files.text(words)),
    ]
    ending, content = kinds[number % len(kinds)]
    return ["report", "Befund-für-Zoë", "scan", "手紙"][number // 5 % 4] + f"-{number:05d}.{ending}", content()


def make_files(patients, files):
    from clinic.models import Document, Photo
    from django.conf import settings
    from django.core.files.base import ContentFile

    dangling, orphaned = [], []
    for number in range(files):
        name, content = file_of(number)
        patient = patients[number % len(patients)]
        is_image = name.endswith((".jpg", ".png"))
        imported = None
        if number // 5 % 5 == 4:  # With blanks and signs that Django itself would have replaced.
            imported = f"filemaker-import/images-bulk-dump/batch {number // 50}/{number}+{number % 7} (copy) {name}"
            path = settings.MEDIA_ROOT / imported
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if number % 50 == 24:
                orphaned.append(imported)
                continue
        row = Photo(patient=patient) if is_image else Document(patient=patient, title=name, bytes=len(content))
        field = row.image if is_image else row.file
        if imported:
            field.name = imported
        else:
            field.save(name, ContentFile(content), save=False)
        row.save()
    for number in range(3):
        Document.objects.create(patient=patients[number], title="no file", file="")
        empty = Photo.objects.create(patient=patients[number])
        Photo.objects.filter(pk=empty.pk).update(image=None)  # `create` would have stored an empty text.
        lost = f"documents/2019/lost {number}.pdf"
        Document.objects.create(patient=patients[number], title="a lost file", file=lost)
        dangling.append(lost)
    return dangling, orphaned


def view():
    from clinic.models import Document, Patient, Photo
    from django.contrib.auth import authenticate
    from django.contrib.auth.models import User
    from django.contrib.sessions.models import Session
    from django.core.management import call_command

    call_command("check", stdout=sys.stderr)
    keys = [row.file.name for row in Document.objects.exclude(file="")]
    keys += [row.image.name for row in Photo.objects.exclude(image=None)]
    return {
        "users": User.objects.count(),
        "can_log_in": authenticate(username="admin", password=PASSWORD) is not None,
        "session": Session.objects.earliest("session_key").get_decoded(),
        "patients": Patient.objects.count(),
        "tagged": Patient.objects.filter(tags__name="recall").distinct().count(),
        "documents": Document.objects.count(),
        "photos": Photo.objects.count(),
        "file_keys": sorted(keys),
    }


def main(verb, folder, *rest):
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    set_up(folder)
    answer = make(folder, int(rest[0]), "--wal" in rest) if verb == "make" else view()
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
