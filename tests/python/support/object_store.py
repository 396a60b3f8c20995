"""A real object store: SeaweedFS, from its package, in a folder and on loopback ports of the tests' own."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY, SECRET = "granary-key", "granary-secret"
DEADLINE_SECONDS = 60


def free_port() -> int:
    """Return a free port whose partner for gRPC, 10,000 above it, is free too."""
    while True:
        port = random.randint(20_000, 45_000)
        try:
            for each in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port


@contextmanager
def seaweed(home: Path, s3_port: int, is_ready: Callable[[], object], *options: str) -> Iterator[None]:
    """Run the server with S3, one login that may do everything, and these options, until the block ends.

    `is_ready` is called until it raises nothing.
    """
    (home / "data").mkdir()
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    identity = {"name": "granary", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        *("weed", f"-logdir={home}", "server", f"-dir={home / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=20", "-volume.preStopSeconds=0"),
        *("-filer", "-s3", f"-s3.config={home / 's3.json'}", f"-s3.port={s3_port}", "-s3.port.lance=0"),
        *(f"-{name}.port={free_port()}" for name in ("master", "volume", "filer")),
        *(f"-{name}.localSocket={home / name}.sock" for name in ("filer", "s3")),
        *options,
    ]
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"PATH": search}, cwd=home)
    try:
        _wait(process, is_ready, home / "log")
        yield
    finally:
        process.kill()  # it would take ten seconds to end, and its data go with it
        process.wait()


def _wait(process: subprocess.Popen[bytes], is_ready: Callable[[], object], log: Path) -> None:
    end, pause = time.monotonic() + DEADLINE_SECONDS, threading.Event()
    while True:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            is_ready()
        except Exception:
            if time.monotonic() > end:
                raise
            pause.wait(0.1)
        else:
            return
