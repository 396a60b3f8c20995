"""HTTP for the marketing API: on loopback, on a port that the system picks, for as long as it is open."""

from __future__ import annotations

import socket
import sys
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING

from demo.marketing import Answer, Marketing, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Server(ThreadingHTTPServer):
    """A server that can be closed at once, with the connections that clients keep open."""

    daemon_threads = True

    def __init__(self, marketing: Marketing) -> None:
        self.marketing = marketing
        self._open: set[socket.socket] = set()
        self._lock = Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's name, which asks a name server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread and remember it."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; all else is a defect and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop accepting, and end the connections that are open."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for request in self._open:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """One connection. The answer is buffered and leaves in one write."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "marketing/1", ""
    wbufsize = 1 << 20  # the largest page has 5,000 rows of 70 bytes
    disable_nagle_algorithm = True
    timeout = 300

    def do_GET(self) -> None:
        """Answer a GET."""
        self._send(self.server.marketing.answer(self.path, self.headers.get("X-Api-Key")))

    def _refuse_method(self) -> None:
        self.close_connection = True  # a body may follow that nobody reads
        self._send(refuse(405, f"{self.command} is not allowed", Allow="GET"))

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse_method  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is not HTTP, in the same words as all else."""
        self.close_connection = True
        self._send(refuse(code, message or explain or "this is not a request"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Keep no access log."""

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


@contextmanager
def serving(marketing: Marketing) -> Iterator[str]:
    """Serve the API in a thread and give its address; afterwards the port is closed, the thread over."""
    server = Server(marketing)
    thread = Thread(target=server.serve_forever, args=(0.05,), name="marketing", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.close()
        thread.join()
