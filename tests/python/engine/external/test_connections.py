"""The standard ways to name a server, each in every driver: PG* variables, a password file, a service, TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy import create_engine, text

from granary.dagster.instance import configuration, prepare_instance
from granary.warehouse import server
from granary.warehouse.connection import connect, connect_arrow, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.psql import psql
from granary.warehouse.settings import Settings
from tests.python.engine.external.conftest import Tills, build, server_of, with_tls
from tests.python.support import certificates, external_server
from tests.python.support.business import BUSINESS
from tests.python.support.external_server import DATABASE, LOGIN, PASSWORD, make_rights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.python.support.external_server import Server

PID = "select pg_backend_pid()"
SSL = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
ENCRYPTED = "select ssl from pg_stat_ssl where pid = %s"
BY_PASSWORD = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
BY_CERTIFICATE = "local all all trust\nhostssl all all 127.0.0.1/32 cert\n"


class Place:
    """A server that takes nothing but TLS, and the files that its logins need."""

    def __init__(self, running: Server, files: Path) -> None:
        self.server, self.files = running, files
        self.authority = str(files / "ca.crt")

    @contextmanager
    def named(self, **variables: str) -> Iterator[Settings]:
        """Have exactly these PG* variables, and yield what is read of them."""
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("PG")]:
                patch.delenv(name)
            patch.setenv("GRANARY_HOME", str(self.files / "home"))
            for name, value in variables.items():
                patch.setenv(name, value)
            yield Settings.load()

    def variables(self, **more: str) -> dict[str, str]:
        """Return what names the server, without the password."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": LOGIN,
            "PGDATABASE": DATABASE,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": self.authority,
            **more,
        }

    @contextmanager
    def admitting(self, rules: str) -> Iterator[None]:
        """Have other rules of who gets in."""
        path = self.server.data / "pg_hba.conf"
        before = path.read_text()
        try:
            self._rule(rules)
            yield
        finally:
            self._rule(before)

    def _rule(self, rules: str) -> None:
        (self.server.data / "pg_hba.conf").write_text(rules)
        self.server.command("pg_ctl", "reload", "-D", str(self.server.data))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    files = tmp_path_factory.mktemp("certificates")
    certificates.authority(files)
    made = certificates.certificate(files, "server", "the server", "IP:127.0.0.1")
    with server_of(with_tls()) as running:
        for path, name in zip(made, ("server.crt", "server.key"), strict=True):
            shutil.copy(path, running.data / name)
            external_server.give(running.data / name)
        shutil.copy(files / "ca.crt", running.data / "ca.crt")
        (running.data / "ca.crt").chmod(0o644)
        running.configure(ssl="on", ssl_ca_file="'ca.crt'")
        running.stop()
        (running.data / "pg_hba.conf").write_text(BY_PASSWORD)
        running.start()
        make_rights(running, files / "home", "cloudsql")
        found = Place(running, files)
        with found.named(**found.variables(PGPASSWORD=PASSWORD)) as settings:
            server.prepare(settings)
            prepare_instance(settings)
        yield found


def everywhere(place: Place, settings: Settings) -> list[object]:
    """Return whether there is TLS in each driver: psycopg and ADBC as a role, Dagster's SQLAlchemy, psql."""
    found: list[object] = []
    with place.server.connect() as superuser, connect(settings, role="loader") as connection:
        found += superuser.execute(ENCRYPTED, query(connection, PID)[0]).fetchone() or ()
    with place.server.connect() as superuser, connect_arrow(settings, "loader") as arrow:
        assert query(arrow, "select current_user::text") == [("shop_loader",)]
        found += superuser.execute(ENCRYPTED, query(arrow, PID)[0]).fetchone() or ()
    database = configuration(settings)["storage"]["postgres"]["postgres_db"]
    if "password" in database:
        database["password"] = os.environ[database["password"]["env"]]
    engine = create_engine(pg_url_from_config({"postgres_db": database}))
    with engine.connect() as session:
        found += [session.execute(text(SSL)).scalar()]
    engine.dispose()
    done = psql(settings, "--no-align", "--tuples-only", "--command", SSL, capture=True)
    assert done.returncode == 0, done.stderr
    return [*found, done.stdout.strip() == "t"]


def write(path: Path, content: str) -> str:
    path.write_text(content)
    path.chmod(0o600)
    return str(path)


def test_every_driver_checks_the_server_with_the_password_from_the_environment(place: Place) -> None:
    with place.named(**place.variables(PGPASSWORD=PASSWORD)) as settings:
        assert everywhere(place, settings) == [True] * 4
        assert dict(settings.libpq) == {"sslmode": "verify-full", "sslrootcert": place.authority}


def test_every_driver_takes_the_password_from_a_file(place: Place, tmp_path: Path) -> None:
    escaped = PASSWORD.replace(":", r"\:")
    file = write(tmp_path / "pgpass", f"127.0.0.1:{place.server.port}:*:{LOGIN}:{escaped}\n")
    with place.named(**place.variables(PGPASSFILE=file)) as settings:
        assert settings.password is None
        assert everywhere(place, settings) == [True] * 4


def test_a_service_names_everything_for_every_driver_and_for_dbt(place: Place, tmp_path: Path) -> None:
    """Of the server; what it leaves out comes from the variables."""
    section = {
        "host": "127.0.0.1",
        "port": place.server.port,
        "user": LOGIN,
        "dbname": DATABASE,
        "sslmode": "verify-full",
        "sslrootcert": place.authority,
    }
    file = write(tmp_path / "services", "[shop]\n" + "".join(f"{name}={value}\n" for name, value in section.items()))
    with place.named(PGSERVICE="shop", PGSERVICEFILE=file, PGPASSWORD=PASSWORD) as settings:
        assert settings.external
        assert everywhere(place, settings) == [True] * 4
        command = [
            sys.executable,
            "-m",
            "dbt_granary",
            "show",
            "--quiet",
            *(
                "--project-dir",
                str(BUSINESS),
                "--profiles-dir",
                str(BUSINESS),
                "--target-path",
                str(tmp_path / "target"),
            ),
            "--inline",
            "select current_user = 'shop_transformer' as ours",
        ]
        done = subprocess.run(command, cwd=BUSINESS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "True" in done.stdout
    with (
        pytest.raises(GranaryError, match="the service 'market' of PGSERVICE names no host"),
        place.named(PGSERVICE="market", PGSERVICEFILE=file),
    ):
        pass


def test_every_driver_shows_its_own_certificate(place: Place) -> None:
    own, key = certificates.certificate(place.files, "login", LOGIN)
    with (
        place.admitting(BY_CERTIFICATE),
        place.named(**place.variables(PGSSLCERT=str(own), PGSSLKEY=str(key))) as settings,
    ):
        assert everywhere(place, settings) == [True] * 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"PGSSLROOTCERT": "{other}"}, "certificate verify failed"),
        ({"PGSSLROOTCERT": "/nowhere/ca.crt"}, "/nowhere/ca.crt"),
        ({"PGHOST": "localhost"}, "does not match host name"),
        ({"PGSSLMODE": "disable"}, "no encryption"),
        ({"PGPASSWORD": "wrong"}, "password authentication failed"),
    ],
)
def test_what_is_not_as_it_should_be_is_said_and_nothing_is_sent(
    place: Place, more: dict[str, str], words: str
) -> None:
    other = place.files / "other.crt"
    if not other.exists():
        certificates.authority(place.files, "other")
    given = {name: value.format(other=other) for name, value in more.items()}
    with (
        place.named(**place.variables(**{"PGPASSWORD": PASSWORD} | given)) as settings,
        pytest.raises(GranaryError, match="cannot connect to Postgres") as raised,
    ):
        connect(settings)
    assert words in str(raised.value)
    assert "check the PG* variables" in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_dbt_builds_by_tls(place: Place, tmp_path: Path) -> None:
    with place.named(**place.variables(PGPASSWORD=PASSWORD)) as settings:
        tills = Tills(tmp_path / "till", settings)
        tills.put("2017-01-02")
        assert tills.load().rows_loaded == 2
        assert build(tmp_path / "dbt").success
        assert tills.published() == [("2017-01-02", 2, "3.00")]


def test_a_psql_without_tls_is_not_used_where_the_server_wants_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.named(**place.variables(PGPASSWORD=PASSWORD)) as settings:
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(
            GranaryError, match="PGSSLMODE is verify-full, and the psql that comes with Granary has no TLS"
        ):
            psql(settings, "--command", "select 1", capture=True)


def test_hosts_with_several_ports_are_refused(place: Place) -> None:
    with pytest.raises(GranaryError, match="PGPORT has several ports"), place.named(PGHOST="a,b", PGPORT="1,2"):
        pass
    with place.named(PGHOST="a,b", PGPORT="5,5", PGTARGETSESSIONATTRS="read-write") as settings:
        assert (settings.host, settings.port) == ("a,b", 5)
        assert settings.environment()["PGTARGETSESSIONATTRS"] == "read-write"
        database = configuration(settings)["storage"]["postgres"]["postgres_db"]
        assert database["params"]["host"] == "a:5,b:5"
