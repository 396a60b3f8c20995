"""A service that deliveries go to: it honours idempotency keys, refuses some rows, and answers as it is told."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Service:
    """What it was sent. `answers` are those to come (status, headers), before it works as it should."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    refuses: Callable[[dict[str, Any]], bool] = lambda _: False
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    keys: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    """Each row that it took: op and key, once for each time that it did."""
    changed: list[str] = field(default_factory=list)
    """Keys that came again with another body."""

    def take(self, key: str, body: bytes) -> int:
        """Do what a request asks for, once; return the status."""
        if key in self.keys:
            if self.keys[key] != body:
                self.changed.append(key)
            return 200
        asked = json.loads(body, parse_float=Decimal)
        if any(self.refuses(row) for row in asked["rows"]):
            return 422
        self.keys[key] = body
        for row in asked["rows"]:
            name = json.dumps(row["key"], sort_keys=True)
            self.events.append((row["op"], name))
            if row["op"] == "delete":
                self.rows.pop(name, None)
            else:
                self.rows[name] = row["row"]
        return 200


@contextmanager
def service() -> Iterator[Service]:
    """Run it on a free port of loopback."""
    found, guard = Service(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with guard:
                found.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers = found.answers.pop(0) if found.answers else (0, {})
                status = status or found.take(self.headers["Idempotency-Key"], body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients are killed here: say nothing."""

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
