# Asks a Django site what it is made of, and prints one line of JSON. It only reads settings and models: no connection is
# opened, nothing is written, and no password or key is looked at.
def nexus_look():
    import json
    import os
    import sys

    import django
    from django.apps import apps
    from django.conf import settings
    from django.core.files.storage import FileSystemStorage, default_storage
    from django.db import models, router

    def text(value):
        return None if value is None or value == "" else str(value)

    # Of an exception only the kind is told: its words may hold a key.
    def told(storage):
        try:
            kind = storage.__class__
            names = [(base.__module__ + "." + base.__qualname__).lower() for base in kind.__mro__]
            answer = {"class": kind.__module__ + "." + kind.__qualname__}
            bucket = getattr(storage, "bucket_name", None)
            # Those of other clouds have a bucket and a location, too, which are no place that S3 knows.
            if bucket and any("s3" in name for name in names):
                answer["bucket"] = str(bucket)
                answer["location"] = text(getattr(storage, "location", None))
                answer["endpoint"] = text(getattr(storage, "endpoint_url", None))
                answer["region"] = text(getattr(storage, "region_name", None))
            elif isinstance(storage, FileSystemStorage) and not str(getattr(storage, "base_location", storage.location)):
                # Its location would be the folder that the site runs in.
                answer["error"] = "MEDIA_ROOT is empty"
            elif isinstance(storage, FileSystemStorage):
                answer["folder"] = os.path.abspath(str(storage.location))
            return answer
        except Exception as error:
            return {"class": "unknown", "error": type(error).__name__}

    def storages():
        try:
            from django.core.files.storage import storages as known
        except ImportError:
            return {"default": told(default_storage)}
        found = {}
        for alias in settings.STORAGES:
            if alias != "staticfiles":
                try:
                    found[alias] = told(known[alias])
                except Exception as error:
                    found[alias] = {"class": "unknown", "error": type(error).__name__}
        return found

    def database(of):
        engine, name = str(of.get("ENGINE") or ""), text(of.get("NAME"))
        if name and ("sqlite" in engine or "spatialite" in engine) and name != ":memory:" and not name.startswith("file:"):
            name = os.path.abspath(name)
        options = of.get("OPTIONS") or {}
        return {
            "engine": engine,
            "name": name,
            "host": text(of.get("HOST")),
            "port": text(of.get("PORT")),
            "user": text(of.get("USER")),
            "service": text(options.get("service")),
            "sslmode": text(options.get("sslmode")),
            # By name alone.
            "options": sorted(str(name) for name in options if name not in ("service", "sslmode")),
        }

    # An empty one stands for a default that is never meant.
    def is_one(of):
        return bool(of) and not str(of.get("ENGINE") or "").endswith("backends.dummy")

    def written_to(model):
        try:
            return router.db_for_write(model)
        except Exception:
            return "default"

    def model(of):
        meta = of._meta
        files = [
            {
                "column": field.column,
                "field": field.name,
                "class": type(field).__name__,
                "upload_to": field.upload_to if isinstance(field.upload_to, (str, os.PathLike)) else None,
                "storage": told(field.storage),
            }
            for field in meta.local_fields
            if isinstance(field, models.FileField)
        ]
        for field in files:
            field["upload_to"] = text(field["upload_to"])
        return {
            "app": meta.app_label,
            "package": meta.app_config.name if meta.app_config else "",
            "name": meta.object_name,
            "table": meta.db_table,
            "managed": bool(meta.managed),
            "automatic": bool(meta.auto_created),
            "database": written_to(of),
            "files": files,
        }

    known = apps.get_models(include_auto_created=True, include_swapped=False)
    answer = {
        "django": django.get_version(),
        "databases": {alias: database(of) for alias, of in settings.DATABASES.items() if is_one(of)},
        "storages": storages(),
        "models": [model(of) for of in known if not of._meta.proxy],
    }
    sys.stdout.write("\nnexus-look:" + json.dumps(answer) + "\n")
    sys.stdout.flush()


nexus_look()
