"""A storage that says of itself what django-storages' S3Storage says, and does nothing: nobody may open or write a file by it."""

from django.core.files.storage import Storage
from django.utils.deconstruct import deconstructible


@deconstructible
class S3Storage(Storage):
    def __init__(self, bucket_name, location="", endpoint_url=None, region_name=None):
        self.bucket_name = bucket_name
        self.location = location
        self.endpoint_url = endpoint_url
        self.region_name = region_name
        self.access_key, self.secret_key = "an access key", "a secret key"
