"""An SFTP server whose folder is looked at after each request: what would a reader have seen there?

It is asyncssh's server, in a thread. `without_rename` makes one that lacks `posix-rename@openssh.com`: then its rename
is that of the protocol, which fails where there is a file.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import asyncssh
from asyncssh.sftp import SFTPServerHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

USER, PASSWORD = "partner", "sftp-secret"
RENAME = b"posix-rename@openssh.com"


@dataclass
class SftpServer:
    """A running server. `seen` is what a file of the folder held after each request, None where it was not there."""

    folder: Path
    port: int = 0
    known_hosts: str = ""
    watched: str = ""
    seen: list[str | None] = field(default_factory=list)
    fails: Callable[[str], bool] = lambda _: False
    """Whether a request of this name is refused."""

    @property
    def credentials(self) -> dict[str, str]:
        """What lets a client in."""
        return {"username": USER, "password": PASSWORD, "known_hosts": self.known_hosts}

    def place(self, folder: str = "out") -> str:
        """Return the address of a folder."""
        return f"sftp://127.0.0.1:{self.port}/{folder}"

    def look(self) -> None:
        """Note what a reader would see now, if it is something else than before."""
        path = self.folder / self.watched
        now = path.read_text() if path.is_file() else None
        if not self.seen or self.seen[-1] != now:
            self.seen.append(now)


def _served(server: SftpServer) -> type[asyncssh.SFTPServer]:
    class Served(asyncssh.SFTPServer):
        def __init__(self, chan: Any) -> None:
            super().__init__(chan, chroot=str(server.folder).encode())

    def watching(name: str) -> Any:
        whole = getattr(asyncssh.SFTPServer, name)

        def request(self: Any, *arguments: Any) -> Any:
            if server.fails(name):
                raise asyncssh.SFTPPermissionDenied("no")
            try:
                return whole(self, *arguments)
            finally:
                server.look()

        return request

    for name in ("open", "write", "close", "remove", "rename", "posix_rename"):
        setattr(Served, name, watching(name))
    return Served


class _Login(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


@contextmanager
def sftp_server(folder: Path, *, without_rename: bool = False) -> Iterator[SftpServer]:
    """Serve `files` below a folder on a free port of loopback; the server's key is beside it."""
    (folder / "files").mkdir()
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = SftpServer(folder / "files")
    loop, started, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        listener = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[key], server_factory=_Login, sftp_factory=_served(server)
        )
        server.port = listener.get_port()
        started.set()
        await stop.wait()
        listener.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # of clients that have not hung up
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    known = [one for one in SFTPServerHandler._extensions if not (without_rename and one[0] == RENAME)]
    with mock.patch.object(SFTPServerHandler, "_extensions", known):
        thread.start()
        assert started.wait(30)
        hosts = folder / "known_hosts"
        hosts.write_text(f"[127.0.0.1]:{server.port} {key.export_public_key().decode()}")
        server.known_hosts = str(hosts)
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(30)
