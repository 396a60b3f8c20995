"""`python -m granary.supervisor.daemon WORKSPACE`: Dagster's daemon, with connections that stay open.

`dagster-daemon` connects anew for every question that it asks its storage, several times a second when nothing is going
on: the server's new processes cost twice what all else does. It also asks each second whether the code server is new.
"""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import suppress

from dagster import DagsterInstance
from dagster._core.workspace.load_target import WorkspaceFileTarget  # there are no public names for these
from dagster._daemon.controller import daemon_controller_from_instance
from dagster._grpc import server_watcher

WATCH_SECONDS = 5


def main(workspace: str) -> None:
    """Run the daemon on the code servers that a file names, until it is interrupted."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    logging.captureWarnings(capture=True)
    server_watcher.WATCH_INTERVAL = WATCH_SECONDS
    target = WorkspaceFileTarget(paths=[workspace])
    with suppress(KeyboardInterrupt), DagsterInstance.get() as instance:
        instance.optimize_for_webserver(statement_timeout=0, pool_recycle=3600, max_overflow=20)
        with daemon_controller_from_instance(instance, target, log_level="warning") as controller:
            controller.check_daemon_loop()


if __name__ == "__main__":
    main(sys.argv[1])
