"""Makes a clinic's objects in a bucket: keys, kinds and sizes as nexus-sandbox makes them, but any number.

Only blanks are left out of the keys: s5cmd 2.3.0 writes a blank in a copy's source as `+`, which
SeaweedFS takes for a plus, so that it could not copy them. Everything follows from the seed. Requests are signed here, by hand, because loading 200,000 objects
through an SDK takes longer than all that is measured.
"""

import hashlib
import hmac
import http.client
import queue
import random
import threading
import time
from urllib.parse import quote, urlsplit

SEED = 20_251_115
# Of 17,541 objects, 9,432 are documents and 6,511 images that rows name; no row names the rest.
OBJECTS = 17_541
DOCUMENTS, IMAGES = 9_432, 6_511
PATIENTS, BATCHES = 2_842, 1_701
AT_ONCE = 8
TRIES = 5

KINDS = ["Befund", "Rechnung", "Arztbrief", "Labor", "Einwilligung", "Überweisung"]
NAMES = ["Müller", "O'Brien", "García", "Öztürk", "Weiß", "van-den-Berg", "Nguyen", "Novák", "Smith"]
TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "csv": "text/csv; charset=utf-8",
}
FRAMES = {
    "jpg": (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00", b"\xff\xd9"),
    "png": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"\x00\x00\x00\x00IEND\xaeB`\x82"),
    "pdf": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", b"\nstartxref\n0\n%%EOF\n"),
    "docx": (b"PK\x03\x04\x14\x00\x06\x00\x08\x00", b"PK\x05\x06\x00\x00\x00\x00"),
    "csv": (b"Datum;Patient;Betrag\n", b"\n"),
}


def document_key(number, dice):
    year, month = dice.randint(2016, 2025), dice.randint(1, 12)
    kind, name = dice.choice(KINDS), dice.choice(NAMES)
    end = "pdf" if dice.random() < 0.75 else "docx"
    folder = f"documents/{year}/{month:02}"
    odd = [
        f"{folder}/{kind}_{name}-{number}.{end}",
        f"{folder}/{kind}+{name}_{number}.{end}",
        f"{folder}/{name}_({kind})_100%_#{number}.{end}",
    ]
    which = dice.randrange(12)
    return odd[which] if which < len(odd) else f"{folder}/scan_{number:05}_{dice.getrandbits(32):08x}.{end}"


def image_key(number, dice):
    patient, which = dice.randint(1, PATIENTS), dice.randrange(20)
    if which < 4:
        return f"images/{dice.randint(2016, 2025)}/{patient:05}_{number}.png"
    if which == 4:
        return f"images/Röntgen-{patient:05}/Aufnahme-{number}.png"
    batch = dice.randint(1, BATCHES)
    return f"filemaker-import/images-bulk-dump/batch-{batch:04}/P{patient:05}_IMG_{number:05}.jpg"


def orphan_key(number, dice):
    which = dice.randrange(10)
    if which < 5:
        return f"filemaker-import/images-bulk-dump/unmatched/IMG_{number:05}.jpg"
    if which < 8:
        return f"documents/superseded/scan_{number:05}_alt.pdf"
    if which == 8:
        return f"exports/{dice.randint(2016, 2025)}/abrechnung_{number}.csv"
    return f"exports/übergabe+liste_{number}.csv"


def objects(count):
    """Yields key, headers and bytes of `count` objects."""
    dice = random.Random(SEED)
    documents, images = count * DOCUMENTS // OBJECTS, count * IMAGES // OBJECTS
    for number in range(1, count + 1):
        if number <= documents:
            key = document_key(number, dice)
        elif number <= documents + images:
            key = image_key(number, dice)
        else:
            key = orphan_key(number, dice)
        kind = key.rsplit(".", 1)[1]
        yield key, headers(kind, dice), body(kind, dice)


def headers(kind, dice):
    named = {"content-type": TYPES[kind]}
    if dice.random() < 0.2:
        named |= {"x-amz-meta-uploaded-by": f"user{dice.randint(1, 12)}", "x-amz-meta-scanner": "Kodak i2620"}
    if kind == "pdf" and dice.random() < 0.04:
        named["x-amz-storage-class"] = "STANDARD_IA"
    if kind == "docx":
        named["content-disposition"] = "attachment"
    if kind == "png":
        named["cache-control"] = "private, max-age=3600"
    return named


def body(kind, dice):
    """Some hundred bytes to 20 kB, most of them small."""
    head, tail = FRAMES[kind]
    return head + dice.randbytes(300 + int(19_000 * dice.random() ** 3)) + tail


class Loader:
    """Puts objects into one bucket by signed requests over a connection for each thread."""

    def __init__(self, url, access_key, secret_key, bucket):
        self.host = urlsplit(url).netloc
        self.access_key, self.bucket = access_key, bucket
        day = time.strftime("%Y%m%d", time.gmtime())
        self.scope = f"{day}/us-east-1/s3/aws4_request"
        key = f"AWS4{secret_key}".encode()
        for word in self.scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        self.key = key

    def signed(self, path, named):
        """The headers with what Signature Version 4 adds to them; the body is not signed."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        day = self.scope.split("/", 1)[0]
        if not stamp.startswith(day):
            raise RuntimeError("the day changed while objects were loaded: run it again")
        named = named | {"host": self.host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": stamp}
        names = sorted(named)
        lines = "".join(f"{name}:{named[name]}\n" for name in names)
        request = "\n".join(["PUT", path, "", lines, ";".join(names), "UNSIGNED-PAYLOAD"])
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{self.scope}\n{digest}"
        signature = hmac.digest(self.key, text.encode(), "sha256").hex()
        credential = f"Credential={self.access_key}/{self.scope}"
        named["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
        return named

    def put(self, connection, key, named, content):
        path = quote(f"/{self.bucket}/{key}", safe="/-._~")
        for tried in range(1, TRIES + 1):
            try:
                connection.request("PUT", path, content, self.signed(path, named))
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200:
                    return
            except (OSError, http.client.HTTPException) as cause:
                connection.close()
                said = cause
            if tried == TRIES:
                raise RuntimeError(f"cannot load {key!r}: {said!r}")
            time.sleep(0.2 * tried)

    def work(self, jobs, failures):
        connection = http.client.HTTPConnection(self.host, timeout=30)
        while (job := jobs.get()) is not None:
            if failures:
                continue  # The queue is emptied, so that nobody waits for room in it.
            try:
                self.put(connection, *job)
            except Exception as cause:  # It ends the run, from the thread that waits.
                failures.append(cause)

    def load(self, count):
        """Loads `count` objects and answers how many bytes they have."""
        jobs, failures, size = queue.Queue(4 * AT_ONCE), [], 0
        threads = [threading.Thread(target=self.work, args=(jobs, failures), daemon=True) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for key, named, content in objects(count):
            size += len(content)
            jobs.put((key, named, content))
            if failures:
                break
        for _ in threads:
            jobs.put(None)
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return size
