"""A real MariaDB: Debian's server binary, in a folder and on a loopback port of the tests' own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

PACKAGE = "mariadb-server-core"
PATIENCE_SECONDS = 30


@dataclass
class MariaDB:
    """A running server with an empty database `shop`, an owner, and a reader who may only read and lock tables."""

    folder: Path
    port: int
    owner: str = field(repr=False)
    reader: str = field(repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """How a source reads it."""
        return f"mysql://reader:{self.reader}@127.0.0.1:{self.port}/shop"

    def captured(self, database: str) -> str:
        """Return how a capture reads it."""
        return f"mysql://capturer:{self.reader}@127.0.0.1:{self.port}/{database}"

    def connect(self) -> Any:
        """Open a connection as the owner, with every statement a transaction of its own."""
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="owner", password=self.owner, database="shop", autocommit=True
        )

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the owner and return the last one's rows."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def follow(self, first: MariaDB) -> None:
        """Become a replica of another server, from the beginning of its log."""
        self.run(
            f"change master to master_host = '127.0.0.1', master_port = {first.port}, master_user = 'capturer',"
            f" master_password = '{first.reader}', master_use_gtid = slave_pos, master_connect_retry = 1",
            "start slave",
        )

    def catch_up(self, first: MariaDB) -> None:
        """Wait until everything that another server has committed is here."""
        ((gtid,),) = first.run("select @@gtid_binlog_pos")
        assert self.run(f"select master_gtid_wait('{gtid}', {PATIENCE_SECONDS})") == [(0,)], self.run(
            "show slave status"
        )

    def readers(self) -> list[int]:
        """Return the ids of the reader's connections."""
        return [row[0] for row in self.run("select id from information_schema.processlist where user = 'reader'")]

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


def binary() -> str | None:
    """Return the server's program, installed if this is root on a Debian; None where it cannot be had."""
    where = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which("mariadbd", path=where):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "--no-install-recommends", PACKAGE]
        subprocess.run(command, env=quiet, capture_output=True, check=False, timeout=300)
    return shutil.which("mariadbd", path=where)


BINLOG = ("--log-bin=log", "--binlog-format=ROW", "--binlog-row-image=FULL", "--binlog-row-metadata=FULL")
"""Options of a server that can be captured."""


def start(program: str, *options: str) -> MariaDB:
    """Create a server's files and start it, as an unprivileged user if this is root: under a second."""
    folder = Path(tempfile.mkdtemp(prefix="granary-maria-", dir="/tmp"))
    as_user: dict[str, Any] = {"cwd": folder}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        as_user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    server = MariaDB(folder, _free_port(), secrets.token_hex(), secrets.token_hex())
    data = folder / "data"
    subprocess.run(["mkdir", "-p", str(data / "mysql")], check=True, **as_user)
    common = [program, "--no-defaults", f"--datadir={data}", "--skip-name-resolve", "--innodb-log-file-size=8M"]
    bootstrap = [*common, "--bootstrap"]
    made = subprocess.run(bootstrap, input=_bootstrap(server), capture_output=True, check=False, **as_user)
    assert made.returncode == 0, made.stderr.decode()[-2000:]
    fast = ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--performance-schema=off"]
    where = [f"--socket={folder / 's'}", f"--port={server.port}", "--bind-address=127.0.0.1"]
    with (folder / "log").open("wb") as log:
        server.process = subprocess.Popen([*common, *fast, *where, *options], stdout=log, stderr=log, **as_user)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            server.connect().close()
        except pymysql.OperationalError:
            assert server.process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.02)
        else:
            return server


def _bootstrap(server: MariaDB) -> bytes:
    """Return what makes the system tables, our two logins and no others."""
    scripts = next(path for path in map(Path, ("/usr/share/mysql", "/usr/share/mariadb")) if path.is_dir())
    names = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
    found = [
        next(p for p in (scripts / name, scripts / name.replace("mysql_", "mariadb_")) if p.exists()) for name in names
    ]
    logins = f"""
delete from global_priv;
flush privileges;
create database shop character set utf8mb4;
create user 'owner'@'%' identified by '{server.owner}';
grant all on *.* to 'owner'@'%' with grant option;
create user 'reader'@'%' identified by '{server.reader}';
grant select, show view, lock tables on shop.* to 'reader'@'%';
create user 'capturer'@'%' identified by '{server.reader}';
grant select on *.* to 'capturer'@'%';
grant replication slave, replication client on *.* to 'capturer'@'%';
"""
    return b"use mysql;\n" + b"".join(path.read_bytes() for path in found) + logins.encode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
