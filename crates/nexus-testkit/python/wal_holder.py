"""An application that keeps a database open: wal_holder.py DATABASE

One line of SQL on standard input, one line of JSON on standard output: {"rows": […]} or {"error": "…"}.
"""

import json
import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
for line in sys.stdin:
    try:
        answer = {"rows": connection.execute(line).fetchall()}
    except sqlite3.Error as cause:
        answer = {"error": str(cause)}
    print(json.dumps(answer, default=bytes.hex), flush=True)
