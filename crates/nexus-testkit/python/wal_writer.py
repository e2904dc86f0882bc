"""An application that dies with its last commits in the write-ahead log: wal_writer.py DATABASE SQL…"""

import os
import signal
import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
assert mode == "wal", f"the journal mode is {mode}"
connection.execute("PRAGMA wal_autocheckpoint=0")
connection.execute("BEGIN IMMEDIATE")
for statement in sys.argv[2:]:
    connection.execute(statement)
connection.execute("COMMIT")
print("committed", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
