"""Runs one command and writes as JSON what it took: seconds, processor seconds, peak memory, status.

    python -I -S measure.py RESULT OUTPUT ERRORS TIMEOUT COMMAND…

The command's standard output and standard error go to the files OUTPUT and ERRORS. Linux hands over, with a child,
what those took that the child had waited for: processor time is that of all processes of the command, and `peak` the
memory of whichever of them was the largest. What each of them took is looked up several times a second: `processes`
has by name the high-water mark that was seen last, and `scratch` the most bytes that the folder TMPDIR held, with what
they keep open and have removed already.

It is a small process of its own because Linux counts the memory of whoever starts a process as that
process's first peak: started from a large one, a small tool looks large.
"""

import json
import os
import signal
import stat
import sys
import time

KIB = 1024
LOOK_EVERY_SECONDS = 0.1


class Watch:
    """What the processes of a command are seen to take, and the folder for temporary files."""

    def __init__(self, child, scratch):
        self.child, self.scratch = child, scratch
        self.peaks, self.largest = {}, 0

    def look(self):
        waiting, removed = [self.child], {}
        while waiting:
            pid = waiting.pop()
            try:
                with open(f"/proc/{pid}/status") as lines:
                    status = dict(line.split(":", 1) for line in lines)
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children") as children:
                        waiting += children.read().split()
                name, peak = status["Name"].strip(), int(status["VmHWM"].split()[0]) * KIB
            except (OSError, KeyError):
                continue  # It is gone, or going.
            self.peaks[name] = max(peak, self.peaks.get(name, 0))
            removed |= open_and_removed(pid)
        self.largest = max(self.largest, size(self.scratch) + sum(removed.values()))


def open_and_removed(pid):
    """The bytes of files without a name that a process has open, by file."""
    found = {}
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            file = os.stat(f"/proc/{pid}/fd/{number}")
            if stat.S_ISREG(file.st_mode) and file.st_nlink == 0:
                found[file.st_dev, file.st_ino] = file.st_size
    except OSError:
        pass  # It is gone, or going.
    return found


def size(folder):
    """The bytes of all files below a folder that may change meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total


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
    watch = Watch(child, os.environ["TMPDIR"])

    def end(*_):
        # Both, because at first it has no group of its own.
        for kill in (os.killpg, os.kill):
            try:
                kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def look(*_):
        if time.monotonic() - begun > timeout:
            end()
        else:
            watch.look()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY_SECONDS, LOOK_EVERY_SECONDS)
    _, status, used = os.wait4(child, 0)
    seconds = time.monotonic() - begun
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {
        "seconds": seconds,
        "processor": used.ru_utime + used.ru_stime,
        "user": used.ru_utime,
        "system": used.ru_stime,
        "peak": used.ru_maxrss * KIB,
        "processes": watch.peaks,
        "scratch": watch.largest,
        "status": os.waitstatus_to_exitcode(status),
    }


def main(result, output, errors, timeout, *command):
    files = [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for name in (output, errors)]
    measured = measure(list(command), *files, int(timeout))
    with open(result, "w") as out:
        json.dump(measured, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
