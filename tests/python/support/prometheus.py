"""A real Prometheus and Alertmanager: Debian's programs, on loopback ports and in a folder of the tests' own."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import TYPE_CHECKING, Any

import yaml

from tests.python.support import debian

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
PATIENCE_SECONDS = 120


def program(name: str) -> str | None:
    """Return one of the programs, installed if this is root on a Debian; None where it cannot be had."""
    return debian.program(name, PACKAGES[name])


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def receiver() -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    """Yield the address of a webhook, and the queue of what it was sent."""
    got: Queue[dict[str, Any]] = Queue()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running(folder: Path, rules: Path, target: str, hook: str) -> Iterator[str]:
    """Yield the address of a Prometheus that scrapes `target` (HOST:PORT) and whose alerts reach `hook`."""
    metrics, alerts = free_port(), free_port()
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    prometheus = {
        "global": every,
        "rule_files": [str(rules)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerts}"]}]}]},
        "scrape_configs": [{"job_name": "granary", "static_configs": [{"targets": [target]}]}],
    }
    manager = {
        "route": {"receiver": "hook", "group_wait": "1s", "group_interval": "1s", "group_by": ["alertname"]},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": hook}]}],
    }
    for name, content in (("prometheus.yml", prometheus), ("alertmanager.yml", manager)):
        (folder / name).write_text(yaml.safe_dump(content))
    with ExitStack() as stack:
        alertmanager = [
            str(program("prometheus-alertmanager")),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alerts'}",
            f"--web.listen-address=127.0.0.1:{alerts}",
            "--cluster.listen-address=",
        ]
        server = [
            str(program("prometheus")),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{metrics}",
        ]
        for command, port in ((alertmanager, alerts), (server, metrics)):
            stack.enter_context(_process(command, folder / f"{port}.log", f"http://127.0.0.1:{port}/-/ready"))
        yield f"http://127.0.0.1:{metrics}"


@contextmanager
def _process(command: Sequence[str], log: Path, ready: str) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=log.parent)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _answers(ready):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
