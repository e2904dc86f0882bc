"""The same site with its files in a bucket, which NEXUS_SITE_BUCKET and NEXUS_SITE_ENDPOINT name."""

import os

from settings import *  # noqa: F403

print("a line that settings print")
STORAGES = {
    "default": {
        "BACKEND": "clinic.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": os.environ["NEXUS_SITE_BUCKET"],
            "location": "media",
            "endpoint_url": os.environ["NEXUS_SITE_ENDPOINT"],
            "region_name": "us-east-1",
        },
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
