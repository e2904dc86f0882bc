"""Runs one command and writes as JSON what it took: seconds, processor seconds, peak memory, status.

    python -I -S measure.py RESULT OUTPUT ERRORS TIMEOUT COMMAND…

The command's standard output and standard error go to the files OUTPUT and ERRORS.

It is a small process of its own because Linux counts the memory of whoever starts a process as that
process's first peak: started from a large one, a small tool looks large.
"""

import json
import os
import signal
import sys
import time

KIB = 1024


def measure(command, output, errors, timeout):
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        try:
            os.execv(command[0], command)
        except OSError as cause:
            os.write(2, f"cannot run {command[0]}: {cause}\n".encode())
            os._exit(127)

    def end(*_):
        os.kill(child, signal.SIGKILL)

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    signal.alarm(timeout)
    _, status, used = os.wait4(child, 0)
    return {
        "seconds": time.monotonic() - begun,
        "processor": used.ru_utime + used.ru_stime,
        "user": used.ru_utime,
        "system": used.ru_stime,
        "peak": used.ru_maxrss * KIB,
        "status": os.waitstatus_to_exitcode(status),
    }


def main(result, output, errors, timeout, *command):
    files = [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for name in (output, errors)]
    measured = measure(list(command), *files, int(timeout))
    with open(result, "w") as out:
        json.dump(measured, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
