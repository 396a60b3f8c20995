"""HTTP services on loopback whose answers a test writes as a function of the request: real sockets, real HTTP."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from granary.load import api as load
from granary.readers.api import http
from granary.sources.spec import Source
from granary.warehouse.connection import connect, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.sources.spec import Reader, Table
    from granary.warehouse.settings import Settings


@dataclass(frozen=True)
class Request:
    """What the service was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    number: int
    """How many requests there were for this path, with this one."""

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What the service answers. `pieces` are sent as chunks, one after the other, until the client is gone."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None
    length: int | None = None

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def zipped(content: bytes) -> Reply:
    """Return a gzip-compressed answer."""
    return Reply(gzip.compress(content), headers={"Content-Encoding": "gzip"})


@dataclass
class Service:
    """One HTTP server: path -> function from a request to a reply (or to JSON)."""

    url: str = ""
    routes: dict[str, Callable[[Request], Any]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when a client went away before it had the whole answer."""

    def paths(self, path: str) -> list[dict[str, str]]:
        """Return the queries that came for a path."""
        return [request.query for request in self.asked if request.path == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        number = 1 + sum(request.path == parts.path for request in self.service.asked)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        request = Request(self.command, parts.path, query, dict(self.headers), body, number)
        self.service.asked.append(request)
        route = self.service.routes.get(parts.path)
        reply = route(request) if route else Reply({"error": "not found"}, 404)
        reply = reply if isinstance(reply, Reply) else Reply(reply)
        try:
            self._send(reply)
        except OSError:
            self.service.gone.set()
            self.close_connection = True

    do_POST = do_GET  # noqa: N815

    def _send(self, reply: Reply) -> None:
        (self.send_response_only if "Date" in reply.headers else self.send_response)(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.pieces is not None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in reply.pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        content = b"" if reply.status in (204, 304) else reply.content
        self.send_header("Content-Length", str(len(content) if reply.length is None else reply.length))
        self.end_headers()
        self.wfile.write(content)
        if reply.length is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients go away on purpose here."""


@pytest.fixture
def make_service() -> Iterator[Callable[[], Service]]:
    """Return a function that starts an HTTP server; each is an origin of its own."""
    running: list[tuple[_Server, threading.Thread]] = []

    def start() -> Service:
        service = Service()
        handler = type("Handler", (_Handler,), {"service": service})
        server = _Server(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        running.append((server, thread))
        service.url = f"http://127.0.0.1:{server.server_port}"
        return service

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def service(make_service: Callable[[], Service]) -> Service:
    """Return an HTTP server."""
    return make_service()


@pytest.fixture(scope="session")
def settings(make_warehouse: Callable[[str], Settings]) -> Settings:
    """Return the warehouse of all tests here."""
    return make_warehouse("apis")


@pytest.fixture
def warehouse(settings: Settings) -> Settings:
    """Return that warehouse with nothing in it; much quicker than one of its own for each test."""
    with connect(settings, autocommit=True) as connection:
        execute(connection, "drop schema if exists raw_shop cascade")
        execute(
            connection, "truncate ops.load_audit, ops.watermarks, ops.quarantine, ops.schema_changes, ops.raw_tables"
        )
    return settings


@pytest.fixture
def nothing_landed(rows: Callable[[str], list[tuple[object, ...]]]) -> Callable[[], bool]:
    """Return a function that returns whether there is still no table of the shop."""
    return lambda: rows("select count(*) from pg_tables where schemaname = 'raw_shop'") == [(0,)]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Reader], *tuple[Table, ...]], None]:
    """Return a function that declares the source `shop`: how its reader is opened, and its tables."""

    def declare(open_reader: Callable[[], Reader], *tables: Table) -> None:
        spec = Source("shop", "A shop's API.", "tests", "api", (), lambda _: open_reader(), tables)
        monkeypatch.setattr(load, "SOURCES", {"shop": spec})

    return declare


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait little between attempts, where no test says otherwise."""
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.005)
