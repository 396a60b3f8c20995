"""A second, real Postgres: the source database, with wal_level = logical, on a socket and on a loopback port."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from granary.warehouse import server
from granary.warehouse.connection import Connection, connect_uri, execute, query
from granary.warehouse.layout import Layout, plan

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPTURER = "capturer"
"""The role that captures: it may log in, replicate and read, and nothing else."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class OriginServer:
    """The server of a source; `home` is a short path in /tmp, because a Unix socket's is limited."""

    home: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def layout(self) -> Layout:
        return plan(self.home)

    def create(self, **more: str) -> None:
        """Make the cluster and start it; `more` are settings of the server."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o755)
        layout = self.layout
        server._create(layout)
        caller = pwd.getpwuid(os.geteuid()).pw_name
        settings = {
            **server.tuning(layout.run, total=1 << 30),
            "listen_addresses": "'127.0.0.1'",
            "port": str(self.port),
            "wal_level": "logical",
            "max_wal_senders": "4",
            "max_replication_slots": "10",
            "max_wal_size": "1GB",
            "max_prepared_transactions": "4",
            "max_connections": "40",
            "fsync": "off",  # processes are killed here, not the machine
            **more,
        }
        texts = {
            "pg_hba.conf": "local all all peer map=owner\nhost all all 127.0.0.1/32 scram-sha-256\n",
            "pg_ident.conf": f'owner "{caller}" granary\nowner "{caller}" {CAPTURER}\n',
            "granary.conf": "".join(f"{name} = {value}\n" for name, value in settings.items()),
        }
        for name, text in texts.items():
            (layout.data / name).write_text(text)
            layout.give(layout.data / name)
        main = layout.data / "postgresql.conf"
        if "granary.conf" not in main.read_text():
            main.write_text(main.read_text() + "\ninclude 'granary.conf'\n")
        self.start()
        self.run("postgres", [f"create role {CAPTURER} login replication password '{self.password}'"])

    def start(self) -> None:
        server.start(self.layout)

    def stop(self, mode: str = "fast") -> None:
        """Stop it; mode "immediate" is a crash, from which it recovers."""
        layout = self.layout
        layout.command("pg_ctl", "stop", "-w", "-m", mode, "-D", str(layout.data))

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.layout.root, ignore_errors=True)

    def uri(self, database: str, user: str = "granary") -> str:
        """Return a URI by the socket, without a password."""
        where = {"host": str(self.layout.run), "port": str(self.port)}
        return f"postgresql://{user}@/{quote(database)}?{urlencode(where)}"

    def tcp_uri(self, database: str, port: int | None = None) -> str:
        """Return a URI by TCP with the capturer's password; `port` may be that of a proxy in between."""
        return f"postgresql://{CAPTURER}:{self.password}@127.0.0.1:{port or self.port}/{quote(database)}"

    def connect(self, database: str, *, autocommit: bool = True) -> Connection:
        return connect_uri(self.uri(database), "the source of a test", "", autocommit=autocommit)

    def run(self, database: str, statements: Iterable[str]) -> None:
        with self.connect(database) as connection:
            for statement in statements:
                execute(connection, statement)

    def rows(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        with self.connect(database) as connection:
            return query(connection, sql)
