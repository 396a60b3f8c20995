"""A TCP proxy that is a bad network on command: it drops, refuses, or breaks or falls silent after so many bytes."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from types import TracebackType

Upstream = Path | tuple[str, int]
"""A Unix socket's path, or a host and a port."""
Direction = Literal["up", "down"]
"""up: from the client to the server. down: from the server to the client."""

BUFFER = 65536
LISTENERS = 64
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on and zero seconds: closing then sends a reset, as a network that breaks does."""


@dataclass
class Proxy:
    """Listens on a free loopback port, and forwards to the upstream while it is healthy.

    A cut network stays cut until `heal`: connections are reset, and new ones are refused.

        with Proxy(("127.0.0.1", port)) as proxy:
            ...                     # a client connects to 127.0.0.1, proxy.port
            proxy.cut_after(10_000)
            ...                     # the client's connection breaks after 10,000 bytes of answers
            proxy.heal()
    """

    upstream: Upstream
    passed: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    cuts: int = 0

    def __post_init__(self) -> None:
        """Take a port."""
        self._lock = threading.Lock()
        self._limits: dict[Direction, int | None] = {"up": None, "down": None}
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = self._stays = self._silent = self._ends = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=LISTENERS)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Proxy:
        """Begin to forward."""
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop every connection and end every thread."""
        self._ends = True
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in list(self._threads):
            thread.join(10)

    # -- commands --------------------------------------------------------------------------------------------

    def cut_after(self, number: int, direction: Direction = "down", *, once: bool = False) -> None:
        """Cut the network when so many more bytes have passed, over all connections; with `once`, only reset them."""
        with self._lock:
            self._limits[direction] = self.passed[direction] + number
            self._stays, self._silent = not once, False

    def stall_after(self, number: int, direction: Direction = "down") -> None:
        """Let nothing more pass, in both directions, when so many more bytes have passed."""
        with self._lock:
            self._limits[direction] = self.passed[direction] + number
            self._silent = True

    def drop(self) -> None:
        """Reset all connections that there are."""
        with self._lock:
            opened, self._open = self._open, set()
        for each in opened:
            _reset(each)

    def refuse(self) -> None:
        """Reset all connections, and each new one as soon as it comes."""
        self._refuses = True
        self.drop()

    def stall(self) -> None:
        """Let nothing pass, and say nothing: what is sent disappears from sight."""
        self._flows.clear()

    def heal(self) -> None:
        """Be a good network again; what was stalled passes."""
        with self._lock:
            self._limits = {"up": None, "down": None}
            self._refuses = False
        self._flows.set()

    # -- forwarding ------------------------------------------------------------------------------------------

    def _run(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ends:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                _reset(client)
                continue
            try:
                server = self._dial()
            except OSError:
                _reset(client)  # what a client sees of a host whose service is down
                continue
            with self._lock:
                if gone := self._refuses or self._ends:  # cut while we were dialling
                    _reset(client)
                    _reset(server)
                else:
                    self._open |= {client, server}
            if not gone:
                self._run(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """Forward both ways until both have ended."""
        up = threading.Thread(target=self._pump, args=(client, server, "up"), daemon=True)
        up.start()
        self._pump(server, client, "down")
        up.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _dial(self) -> socket.socket:
        if isinstance(self.upstream, Path):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self.upstream))
            return server
        return socket.create_connection(self.upstream)

    def _pump(self, origin: socket.socket, target: socket.socket, direction: Direction) -> None:
        """Forward until one side ends; an orderly end is passed on as such, any other ends both sides."""
        try:
            while data := origin.recv(BUFFER):
                self._flows.wait()
                allowed, ends = self._allow(len(data), direction)
                target.sendall(data[:allowed])
                if ends and not self._silent:
                    self.drop()
                    return
                self._flows.wait()
                target.sendall(data[allowed:])
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for each in (origin, target):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _allow(self, number: int, direction: Direction) -> tuple[int, bool]:
        """Return how many of so many bytes may pass, and whether the network breaks or falls silent after them."""
        with self._lock:
            limit = self._limits[direction]
            if limit is None or self.passed[direction] + number < limit:
                self.passed[direction] += number
                return number, False
            allowed = max(0, limit - self.passed[direction])
            self.passed[direction] += allowed
            self._limits = {"up": None, "down": None}
            self.cuts += 1
            if self._silent:
                self._flows.clear()
            else:
                self._refuses = self._stays
            return allowed, True


def _reset(each: socket.socket) -> None:
    """End a connection as a broken network does; a thread that waits for it wakes up."""
    with suppress(OSError):
        if each.family != socket.AF_UNIX:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
