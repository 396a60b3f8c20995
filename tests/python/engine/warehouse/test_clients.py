"""The strings of docs/engine/connect-a-bi-tool.md, tried with each tool that this machine has; others are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import granary
from granary.warehouse import certificate, doors, listen, roles
from granary.warehouse.connection import connect, execute
from granary.warehouse.listen import Listening
from tests.python.support import postgres_with_tls
from tests.python.support.command import own_server
from tests.python.support.origin_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "correct horse battery staple"
QUESTION = "select sum(amount) from marts.orders"
JDBC = Path("/usr/share/java/postgresql.jar")
ODBC = "PostgreSQL Unicode"


@dataclass(frozen=True)
class Place:
    """Where Alice connects; `trust` is the file of the authority, None where there is no TLS."""

    host: str
    port: int
    trust: Path | None

    @property
    def mode(self) -> str:
        return "verify-full" if self.trust else "disable"

    @property
    def options(self) -> str:
        """The end of an address."""
        return f"sslmode={self.mode}" + (f"&sslrootcert={self.trust}" if self.trust else "")

    @property
    def environment(self) -> dict[str, str]:
        """What programs that use libpq read."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return (
            env
            | {"PGPASSWORD": SECRET, "PGSSLMODE": self.mode}
            | ({"PGSSLROOTCERT": str(self.trust)} if self.trust else {})
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with TLS if there is a build with it, and an analyst's login on a small mart."""
    folder = postgres_with_tls.folder()
    with pytest.MonkeyPatch.context() as patch, own_server(patch) as settings:
        place = Place("localhost", free_port(), (tmp_path_factory.mktemp("trust") / "listen.crt") if folder else None)
        server = str(folder) if folder else None
        networks = listen.networks([], "127.0.0.1")
        doors.let_in(
            settings, Listening("127.0.0.1", place.port, "granary", networks, bool(folder), None, None, server)
        )
        if place.trust:
            shutil.copy(settings.home / certificate.CERTIFICATE, place.trust)
        roles.grant(settings, "alice", "analyst", SECRET)
        with connect(settings, autocommit=True) as connection:
            execute(connection, "create schema marts")
            execute(connection, "create table marts.orders (placed_on date, amount numeric(12, 2))")
            execute(connection, "insert into marts.orders values ('2026-01-31', 10.25), ('2026-02-01', 31.75)")
            execute(connection, "grant usage on schema marts to analyst")
            execute(connection, "grant select on marts.orders to analyst")
        yield place


def run(place: Place, *command: str, text: str | None = None) -> str:
    done = subprocess.run(
        command, input=text, env=place.environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_psql(place: Place) -> None:
    psql = next((one for one in ("/usr/bin/psql", shutil.which("psql")) if one and Path(one).exists()), None)
    if psql is None:
        pytest.skip("psql is not installed")
    address = f"postgresql://alice@{place.host}:{place.port}/granary?{place.options}"
    assert run(place, psql, "-X", "-At", address, "-c", QUESTION) == "42.00\n"


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_sqlalchemy_and_pandas(place: Place, driver: str) -> None:
    pandas = pytest.importorskip("pandas")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    address = f"postgresql+{driver}://alice:{SECRET.replace(' ', '%20')}@{place.host}:{place.port}/granary"
    engine = sqlalchemy.create_engine(f"{address}?{place.options}")
    frame = pandas.read_sql("select * from marts.orders order by placed_on", engine)
    engine.dispose()
    assert [float(one) for one in frame["amount"]] == [10.25, 31.75]


def test_granary_read_from_another_machine(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the standard variables; what stands in the mart comes as it is declared there."""
    code = (
        "import granary; table = granary.read('orders');"
        "print(table.schema.field('amount').type, sum(table['amount'].to_pylist()), table.num_rows)"
    )
    env = {"PGHOST": place.host, "PGPORT": str(place.port), "PGUSER": "alice", "PGDATABASE": "granary"}
    env |= {"PGPASSWORD": SECRET, "PGSSLMODE": "require" if place.trust else "disable"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")} | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "decimal128(12, 2) 42.00 2\n", done.stderr


def test_odbc(place: Place) -> None:
    if not shutil.which("isql") or ODBC not in run(place, "odbcinst", "-q", "-d"):
        pytest.skip("unixodbc or odbc-postgresql is not installed")
    where = f"Driver={{{ODBC}}};Server={place.host};Port={place.port};Database=granary;Uid=alice;Pwd={SECRET}"
    trust = f";SSLmode={place.mode}"
    assert "| 42.00 " in run(place, "isql", "-b", "-k", where + trust, text=QUESTION + "\n")


def test_jdbc(place: Place, tmp_path: Path) -> None:
    if not shutil.which("java") or not JDBC.exists() or not shutil.which("javac"):
        pytest.skip("a JDK or libpostgresql-jdbc-java is not installed")
    source = tmp_path / "Ask.java"
    source.write_text(
        "public class Ask { public static void main(String[] words) throws Exception {"
        ' try (var c = java.sql.DriverManager.getConnection(words[0], null, System.getenv("PGPASSWORD"));'
        f' var r = c.createStatement().executeQuery("{QUESTION}"))'
        " { r.next(); System.out.println(r.getBigDecimal(1)); } } }"
    )
    address = f"jdbc:postgresql://{place.host}:{place.port}/granary?user=alice&{place.options}"
    assert run(place, "java", "-cp", str(JDBC), str(source), address) == "42.00\n"


def test_r(place: Place) -> None:
    """By Debian's RPostgreSQL; what it cannot be told, libpq reads from the environment."""
    if not shutil.which("Rscript") or "TRUE" not in run(
        place, "Rscript", "-e", "cat(requireNamespace('RPostgreSQL', quietly = TRUE))"
    ):
        pytest.skip("R or r-cran-rpostgresql is not installed")
    code = (
        f"con <- DBI::dbConnect(RPostgreSQL::PostgreSQL(), host = '{place.host}', port = {place.port}, user = 'alice',"
        f" password = Sys.getenv('PGPASSWORD'), dbname = 'granary'); cat(DBI::dbGetQuery(con, '{QUESTION}')[[1]])"
    )
    assert run(place, "Rscript", "-e", code) == "42"


def test_duckdb(place: Place, tmp_path: Path) -> None:
    if not find_spec("duckdb") or not find_spec("duckdb_extension_postgres"):
        pytest.skip("duckdb or duckdb-extension-postgres is not installed")
    package = Path(find_spec("duckdb_extension_postgres").origin or "").parent  # type: ignore[union-attr]
    extension = tmp_path / "postgres_scanner.duckdb_extension"  # the name is that of its entry point
    shutil.copy(next(package.rglob("*.duckdb_extension")), extension)
    where = f"host={place.host} port={place.port} user=alice dbname=granary sslmode={place.mode}"
    code = (
        "import duckdb; c = duckdb.connect(config={'allow_unsigned_extensions': True});"
        f"c.load_extension({str(extension)!r});"
        f"c.execute(\"attach '{where}' as granary (type postgres, read_only)\");"
        "print(c.execute('select sum(amount) from granary.marts.orders').fetchone()[0])"
    )
    assert run(place, sys.executable, "-c", code) == "42.00\n"


def test_importing_granary_costs_nothing() -> None:
    assert granary.read.__module__ == "granary"
    code = "import sys, granary; print(sum(name.partition('.')[0] in {'pyarrow', 'psycopg'} for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"
