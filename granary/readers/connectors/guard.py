"""Stands beside a connector, a program by itself: ends it, and all that it started, when its loader is gone.

The loader holds the other end of our standard input; whatever ends the loader closes it. We lead the process group.
"""

import os
import signal
import subprocess
import sys
import threading


def _watch() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    try:
        child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"it cannot be started: {error.strerror}\n")
        sys.exit(126)
    os.close(1)  # the end of the connector's output is to be seen
    threading.Thread(target=_watch, daemon=True).start()
    code = child.wait()
    os._exit(code if code >= 0 else 128 - code)
