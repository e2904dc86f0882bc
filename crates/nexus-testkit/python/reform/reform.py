"""A real Django site, and what its owner is about to do to it.

    python reform.py make     the database as it was before: the first migration, which brings its rows
    python reform.py where    prints the database, bucket and prefix that the settings lead to
    python reform.py deed     the second migration, then rows and files are deleted, overwritten and added
"""

import os
import sys
from pathlib import Path


def bucket():
    import botocore.session
    from django.conf import settings

    client = botocore.session.get_session().create_client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])
    return client, settings.BUCKET, settings.PREFIX


def where():
    from django.conf import settings

    print(settings.DATABASES["default"]["NAME"], settings.BUCKET, settings.PREFIX)


def make():
    from django.core.management import call_command

    call_command("migrate", "shop", "0001", verbosity=0)


def deed():
    from django.core.management import call_command
    from shop.models import Order

    call_command("migrate", verbosity=1)
    client, name, prefix = bucket()
    for order in Order.objects.filter(number__lt=12):
        client.delete_object(Bucket=name, Key=prefix + order.file)
        order.delete()
    Order.objects.filter(number=20).update(note="looked at")
    client.put_object(Bucket=name, Key=f"{prefix}documents/00020.pdf", Body=b"looked at")
    Order.objects.create(number=1000, file="documents/01000.pdf", note="new", status="open")
    client.put_object(Bucket=name, Key=f"{prefix}documents/01000.pdf", Body=b"new")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django

    django.setup()
    {"make": make, "where": where, "deed": deed}[sys.argv[1]]()
