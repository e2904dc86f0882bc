"""The S3 service that the benches store in, and a client that looks at what the tools stored."""

import subprocess

import botocore.session
from botocore.config import Config

from tools import REGION
from turns import ROOT, servers

SANDBOX = ROOT / "target/release/nexus-sandbox"


def with_service(options):
    """Adds what chooses a service."""
    options.add_argument("--service", choices=["seaweedfs", "sandbox"], default="seaweedfs", help="[seaweedfs]")
    options.add_argument(
        "--latency", type=int, default=0, metavar="MS", help="how long each answer of the sandbox waits [0]"
    )
    return options


def checked(options, asked):
    """Refuses what no service does; answers what was asked."""
    if asked.latency and asked.service != "sandbox":
        options.error("--latency needs --service sandbox")
    return asked


def late(asked):
    """How late each answer comes, as a part of a sentence."""
    return f", each answer {asked.latency} ms late" if asked.latency else ""


class Storage:
    """A running SeaweedFS, or the service of nexus-sandbox; `child` is its process."""

    def __init__(self, folder, stopping, kind="seaweedfs", latency=0):
        """`latency`: milliseconds that each answer waits; only nexus-sandbox knows how."""
        self.name = "SeaweedFS" if kind == "seaweedfs" else "the service of nexus-sandbox"
        if kind == "seaweedfs":
            service = servers.seaweedfs(folder)
            stopping.callback(service.stop)
            service.wait_until_it_answers()
            self.child, self.url, self.keys = service.child, service.url, (service.access_key, service.secret_key)
        else:
            subprocess.run(["cargo", "build", "--release", "--locked", "-p", "nexus-sandbox"], cwd=ROOT, check=True)
            command = [str(SANDBOX), "serve", "--latency", str(latency)]
            self.child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=servers.die_with_parent
            )
            stopping.callback(self.child.wait)
            stopping.callback(self.child.terminate)
            self.url, *keys = self.child.stdout.readline().decode().split()
            self.keys = tuple(keys)
        self.client = botocore.session.get_session().create_client(
            "s3", endpoint_url=self.url, region_name=REGION,
            aws_access_key_id=self.keys[0], aws_secret_access_key=self.keys[1],
            config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=120),
        )

    def signed_copy(self, source, key, bucket):
        """A URL that whoever has it copies an object by, and the header that goes with it."""
        params = {"Bucket": bucket, "Key": key, "CopySource": {"Bucket": source, "Key": key}}
        return self.client.generate_presigned_url("copy_object", Params=params, ExpiresIn=3600)

    def damage(self, bucket, share):
        """Overwrites one object of so many with junk; answers how many."""
        keys = sorted(self.listing(bucket))[::share]
        for key in keys:
            self.client.put_object(Bucket=bucket, Key=key, Body=b"damaged")
        return len(keys)

    def create(self, bucket):
        self.client.create_bucket(Bucket=bucket)

    def empty(self, bucket):
        """Removes all objects of a bucket, so that the next tool finds as much room."""
        keys = [{"Key": key} for key in self.listing(bucket)]
        for at in range(0, len(keys), 1000):
            self.client.delete_objects(Bucket=bucket, Delete={"Objects": keys[at : at + 1000], "Quiet": True})

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
