"""The same site with its rows in PostgreSQL, which NEXUS_SITE_DATABASE, _PORT, _USER and _PASSWORD name."""

import os

from settings import *  # noqa: F403

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["NEXUS_SITE_DATABASE"],
        "HOST": "127.0.0.1",
        "PORT": os.environ["NEXUS_SITE_PORT"],
        "USER": os.environ["NEXUS_SITE_USER"],
        "PASSWORD": os.environ["NEXUS_SITE_PASSWORD"],
        # The servers of the tests have settings of their own, which psycopg does not read.
        "OPTIONS": {"options": "-c DateStyle=ISO,MDY -c IntervalStyle=postgres"},
    }
}
