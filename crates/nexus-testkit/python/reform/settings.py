"""A small shop's settings, all from the environment: DATABASE_URL, SHOP_BUCKET, SHOP_PREFIX, AWS_ENDPOINT_URL_S3.

With SHOP_STUBBORN it takes its database from there instead, as an application does that has its own settings.
"""

import os
from urllib.parse import unquote, urlsplit


def database(url):
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": unquote(parts.path[1:])}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": parts.port,
        # The tests' servers speak in another style, which psycopg does not read.
        "OPTIONS": {"options": "-c datestyle=ISO"},
    }


SECRET_KEY = "a key that signs nothing"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": database(os.environ.get("SHOP_STUBBORN") or os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
BUCKET = os.environ["SHOP_BUCKET"]
PREFIX = os.environ.get("SHOP_PREFIX", "")
