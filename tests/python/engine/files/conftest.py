"""Landing zones on disk, S3, SFTP and HTTP, with real servers on loopback, and loads through the whole seam."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import pyarrow as pa
import pytest
import s3fs
from sshfs import SSHFileSystem

from granary.load.api import load_table
from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Table
from granary.warehouse.connection import connect, query
from tests.python.support.object_store import KEY, SECRET, free_port, seaweed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.load.batch_stage import LoadResult
    from granary.warehouse.settings import Settings

PEOPLE = (
    Column("id", pa.int64(), "Number.", nullable=False),
    Column("name", pa.string(), "Name."),
    Column("born", pa.date32(), "Birthday."),
    Column("score", pa.float64(), "Points."),
)
_number = count(1)


def table(location: str = "people*", columns: tuple[Column, ...] = PEOPLE, **more: Any) -> Table:
    """Return a contract for files of people; half of the rows may be refused."""
    values = {"max_refused": 0.5} | more
    return Table(
        name="people",
        description="People.",
        location=location,
        columns=columns,
        disposition="replace_unit",
        freshness=timedelta(days=1),
        **values,
    )


def label(value: object) -> str:
    """Return how a parameter is called in a test's name: contents, such as a packed file, differ with the clock."""
    return value if isinstance(value, str) and value.isprintable() and len(value) < 60 else type(value).__name__


@dataclass
class Zone:
    """A landing zone and its raw table, which nobody else uses."""

    settings: Settings
    folder: Path
    patch: pytest.MonkeyPatch
    name: str = field(default_factory=lambda: f"zone{next(_number)}")

    def put(self, name: str, content: bytes | str, age: float = 60) -> Path:
        """Write a file that last changed some seconds ago."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        moment = time.time() - age
        os.utime(path, (moment, moment))
        return path

    def load(self, contract: Table | None = None, at: str | None = None, **options: Any) -> LoadResult:
        """Load what is new, by a reader with these options."""
        location = at or str(self.folder)
        source = Source(
            name=self.name,
            description="Files.",
            owner="tests",
            kind="files",
            settings=(),
            open_reader=lambda _: FileReader(location, **options),
            tables=(contract or table(),),
        )
        self.patch.setattr("granary.load.api.SOURCES", {self.name: source})
        return load_table(self.settings, self.name, "people")

    def rows(self, columns: str = "id, name, born::text, score", order: str = "_load_id, _row") -> list[Any]:
        """Return what is in the raw table."""
        return self.query(f"select {columns} from raw_{self.name}.people order by {order}")

    def refused(self) -> list[Any]:
        """Return what is in quarantine: (row, line, column, reason, payload)."""
        return self.query(
            "select row_number, line, column_name, reason, payload::text from ops.quarantine where source = $1"
            " order by row_number",
            self.name,
        )

    def query(self, sql: str, *parameters: object) -> list[Any]:
        with connect(self.settings) as connection:
            return query(connection, sql, *parameters)


@pytest.fixture
def zone(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zone:
    """Return an empty landing zone."""
    return Zone(settings, tmp_path, monkeypatch)


@dataclass(frozen=True)
class Store:
    """A running object store that also speaks SFTP."""

    s3_port: int
    sftp_port: int
    known_hosts: Path
    client_key: Path

    def s3(self, bucket: str) -> str:
        return f"s3://{bucket}?endpoint_url=http://127.0.0.1:{self.s3_port}"

    def sftp(self, folder: str) -> str:
        return f"sftp://127.0.0.1:{self.sftp_port}/{folder}"

    @property
    def s3_credentials(self) -> dict[str, str]:
        return {"key": KEY, "secret": SECRET}

    @property
    def sftp_credentials(self) -> dict[str, str]:
        return {"username": "granary", "password": "sftp-secret", "known_hosts": str(self.known_hosts)}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Run SeaweedFS with its S3 and SFTP gateways."""
    home = tmp_path_factory.mktemp("weed")
    (home / "keys").mkdir(mode=0o700)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(home / "keys" / "ssh_host_ed25519_key")
    (home / "keys" / "ssh_host_ed25519_key").chmod(0o600)
    user = {"Username": "granary", "Password": "sftp-secret", "HomeDir": "/", "Permissions": {"/": ["*"]}}
    by_key = asyncssh.generate_private_key("ssh-ed25519")
    by_key.write_private_key(home / "client_key")
    (home / "client_key").chmod(0o600)
    keyed = {
        "Username": "keyed",
        "PublicKeys": [by_key.export_public_key().decode().strip()],
        **{name: user[name] for name in ("HomeDir", "Permissions")},
    }
    (home / "users.json").write_text(json.dumps([user, keyed]))
    ports = {name: free_port() for name in ("s3", "sftp")}
    running = Store(ports["s3"], ports["sftp"], home / "known_hosts", home / "client_key")
    public = key.export_public_key().decode()
    running.known_hosts.write_text(f"[127.0.0.1]:{ports['sftp']} {public}")
    sftp = (
        *("-sftp", f"-sftp.userStoreFile={home / 'users.json'}", f"-sftp.hostKeysFolder={home / 'keys'}"),
        *(f"-sftp.port={ports['sftp']}", f"-sftp.localSocket={home / 'sftp.sock'}", "-s3.port.iceberg=0"),
    )

    def ready() -> None:
        bucket_files(running).mkdir("landing")
        remote_files(running).makedirs("/ready", exist_ok=True)

    with seaweed(home, running.s3_port, ready, *sftp):
        yield running


def bucket_files(store: Store) -> Any:
    """Return the S3 side, to put files there."""
    return s3fs.S3FileSystem(
        **store.s3_credentials, endpoint_url=f"http://127.0.0.1:{store.s3_port}", skip_instance_cache=True
    )


def remote_files(store: Store) -> Any:
    """Return the SFTP side, to put files there."""
    return SSHFileSystem("127.0.0.1", port=store.sftp_port, skip_instance_cache=True, **store.sftp_credentials)


class Web(SimpleHTTPRequestHandler):
    """Serves a folder, as Python's http.server does; below /private only to who knows the password."""

    asked: list[str] = []  # noqa: RUF012 - one list for the whole server

    def do_GET(self) -> None:
        self.asked.append(f"GET {self.path}")
        if self._allowed():
            super().do_GET()

    def do_HEAD(self) -> None:
        self.asked.append(f"HEAD {self.path}")
        if self._allowed():
            super().do_HEAD()

    def _allowed(self) -> bool:
        expected = f"Basic {base64.b64encode(b'ada:web-secret').decode()}"
        if self.path.startswith("/private") and self.headers.get("Authorization") != expected:
            self.send_error(401)
            return False
        return True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve the landing zone by HTTP and return its address."""
    Web.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Web, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
