"""The S3 service that the benches store in, and a client that looks at what the tools stored."""

import botocore.session
from botocore.config import Config

from tools import REGION
from turns import servers


class Storage:
    """A running SeaweedFS; `child` is its process."""

    def __init__(self, folder, stopping):
        self.service = servers.seaweedfs(folder)
        stopping.callback(self.service.stop)
        self.service.wait_until_it_answers()
        self.child, self.url = self.service.child, self.service.url
        self.keys = self.service.access_key, self.service.secret_key
        self.client = botocore.session.get_session().create_client(
            "s3", endpoint_url=self.url, region_name=REGION,
            aws_access_key_id=self.service.access_key, aws_secret_access_key=self.service.secret_key,
            config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=120),
        )

    def create(self, bucket):
        self.client.create_bucket(Bucket=bucket)

    def listing(self, bucket):
        """Size and ETag of each key."""
        found = {}
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for page in pages:
            found |= {each["Key"]: (each["Size"], each["ETag"]) for each in page.get("Contents", [])}
        return found

    def fetch(self, bucket, key, path):
        """Writes an object to a file."""
        body = self.client.get_object(Bucket=bucket, Key=key)["Body"]
        with path.open("wb") as out:
            for piece in body.iter_chunks(1024 * 1024):
                out.write(piece)
