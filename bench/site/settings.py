"""A clinic's site. NEXUS_BENCH_SITE is its database as JSON, in the form of Django's DATABASES."""

import json
import os

SECRET_KEY = "a key that signs nothing"
INSTALLED_APPS = ["clinic"]
DATABASES = {"default": json.loads(os.environ["NEXUS_BENCH_SITE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
