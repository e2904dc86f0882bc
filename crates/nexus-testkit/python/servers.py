"""Runs one command with throwaway S3 services and PostgreSQL clusters beside it, and stops them afterwards.

    python servers.py COMMAND…

All of them listen on free ports of 127.0.0.1 and keep what they store in a private temporary folder. The command finds them by the variables NEXUS_TEST_*; its exit status is passed on.
"""

import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import botocore.session
from botocore.config import Config

import postgresql

READY_WITHIN_SECONDS = 90
STOP_WITHIN_SECONDS = 10
LOG_LINES_SHOWN = 40
# Below the range from which Linux hands out ports by itself, twins included.
PORTS = range(12_000, 22_000)
GRPC_OFFSET = 10_000
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Service:
    """One running S3 service: where it answers, with which keys, and where it logs."""

    def __init__(self, name, variable, port, keys, command, environment, folder):
        self.name, self.variable = name, variable
        self.url = f"http://127.0.0.1:{port}"
        self.access_key, self.secret_key = keys
        self.log = folder / f"{variable.lower()}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests; the services stop after them.
                preexec_fn=die_with_parent,
            )

    def variables(self):
        return {
            f"NEXUS_TEST_{self.variable}": self.url,
            f"NEXUS_TEST_{self.variable}_ACCESS_KEY": self.access_key,
            f"NEXUS_TEST_{self.variable}_SECRET_KEY": self.secret_key,
        }

    def wait_until_it_answers(self):
        """A port that answers is not enough: SeaweedFS lists buckets before it can store an object."""
        client = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"max_attempts": 1},
                connect_timeout=2,
                read_timeout=10,
            ),
        )
        name = {"Bucket": "nexus-test-ready"}
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while True:
            if self.child.poll() is not None:
                self.fail(f"ended with status {self.child.returncode}")
            try:
                client.create_bucket(**name)
                client.put_object(**name, Key="ready", Body=b"ready")
                client.delete_object(**name, Key="ready")
                client.delete_bucket(**name)
                return
            except Exception as cause:  # Whatever it is: it passes, or the time ends and it is shown.
                if time.monotonic() > deadline:
                    self.fail(f"stored nothing within {READY_WITHIN_SECONDS} s: {cause}")
            time.sleep(0.1)

    def fail(self, why):
        tail = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        sys.exit("\n".join([f"{self.name} {why}; the end of its log:", *tail]))

    def stop(self):
        """Nothing it stores is wanted again, so there is no reason to let it finish its work."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait(STOP_WITHIN_SECONDS)


def die_with_parent():
    """No service outlives this script, even when it is killed without a chance to clean up."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def is_free(port):
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count):
    """Each with a free twin: SeaweedFS derives the gRPC port of a peer by adding 10,000."""
    chosen = []
    for port in random.sample(PORTS, len(PORTS)):
        if is_free(port) and is_free(port + GRPC_OFFSET):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    sys.exit("no free ports below 32,000 on 127.0.0.1")


def seaweedfs(folder):
    master, volume, filer, s3 = free_ports(4)
    keys = ("nexus-test", "nexus-test-secret")
    identity = {
        "name": "admin",
        "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": [identity]}))
    stored = folder / "seaweedfs"
    stored.mkdir()
    command = [
        str(Path(sys.executable).parent / "weed"), "-logtostderr=true", "server",
        f"-dir={stored}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}",
        "-filer", "-s3", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock",
        "-s3.autoCreateBucket=false", "-master.telemetry=false",
        # A bucket is a collection and a collection has volumes of its own, which are empty files
        # until written to: many small ones, so that hundreds of test buckets fit.
        "-volume.max=20000", "-volume.minFreeSpace=64MiB",
        "-master.volumeSizeLimitMB=1024", "-master.volumePreallocate=false",
    ]
    environment = {
        "WEED_S3_SSE_KEY": "a key that protects nothing but tests",
        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
        "WEED_FILER_OPTIONS_MAX_FILE_NAME_LENGTH": "1024",
        "TMPDIR": str(folder),
    }
    return Service("SeaweedFS", "SEAWEEDFS", s3, keys, command, environment, folder)


def ministack(folder):
    (port,) = free_ports(1)
    keys = ("test", "test")
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3,sts",
        "LOG_LEVEL": "WARNING",
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "S3_DATA_DIR": str(folder / "ministack"),
        # It would look for containers of its own to remove: it has none here.
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        "TMPDIR": str(folder),
    }
    command = [sys.executable, "-m", "ministack"]
    return Service("MiniStack", "MINISTACK", port, keys, command, environment, folder)


def of_this_run_only(environment):
    """The settings of the person who runs the tests must never lead a test to a real account."""
    foreign = ("AWS_", "PG", "NEXUS_", "DATABASE_URL")
    kept = {name: value for name, value in environment.items() if not name.startswith(foreign)}
    return kept | {
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def run(command, environment):
    child = subprocess.Popen(command, env=environment)

    def pass_on(number, _frame):
        child.send_signal(number)

    # The terminal sends Ctrl-C to the whole group: the command hears it too and is waited for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGHUP, pass_on)
    status = child.wait()
    return 128 - status if status < 0 else status


def main(command):
    if not command:
        sys.exit(__doc__)
    # Whoever started this script and is gone can no longer end it.
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # Until the command runs, a signal is an exit like any other: the services are stopped on the way.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    signal.signal(signal.SIGHUP, lambda number, _frame: sys.exit(128 + number))
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    folder = Path(tempfile.mkdtemp(prefix="nexus-test-"))
    # PostgreSQL runs as another user, who has to get through to the folder of its own.
    folder.chmod(0o711)
    services = []
    try:
        for start in (seaweedfs, ministack):
            services.append(start(folder))
        programs = postgresql.programs(folder)
        for (major, bin), port in zip(programs.items(), free_ports(len(programs))):
            place = folder / f"postgresql-{major}"
            services.append(postgresql.Cluster(major, bin, place, port, die_with_parent))
        environment = of_this_run_only(os.environ)
        for service in services:
            service.wait_until_it_answers()
            environment |= service.variables()
        environment["NEXUS_TEST_POSTGRES_USER"] = postgresql.SUPERUSER
        environment["NEXUS_TEST_POSTGRES_PASSWORD"] = postgresql.PASSWORD
        environment["NEXUS_TEST_POSTGRES_MAJORS"] = " ".join(sorted(programs))
        environment["NEXUS_TEST_PYTHON"] = sys.executable
        environment["NEXUS_TEST_AWS"] = str(Path(sys.executable).parent / "aws")
        return run(command, environment)
    except KeyboardInterrupt:
        return 130
    finally:
        for service in services:
            service.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
