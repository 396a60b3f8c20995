"""The embedded server over the network: who gets in, who does not, and how much of it they may take."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from granary.cli import network
from granary.cli.health import Health
from granary.warehouse import certificate, configuration, doors, listen, roles, secret, server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.layout import find_binaries, plan
from granary.warehouse.listen import Listening
from granary.warehouse.settings import Settings
from tests.python.support import postgres_with_tls
from tests.python.support.command import granary, own_server
from tests.python.support.origin_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "correct horse battery staple"


def at(port: int, host: str = "127.0.0.1", clients: tuple[str, ...] = listen.LOOPBACK, **more: Any) -> Listening:
    return Listening(host, port, "granary", clients, **{"tls": False} | more)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def open_server(port: int) -> Iterator[Settings]:
    """A server that listens at 127.0.0.1, for ada, an analyst, and for some whom it must not let in."""
    with pytest.MonkeyPatch.context() as patch, own_server(patch) as settings:
        doors.let_in(settings, at(port))
        roles.grant(settings, "ada", "analyst", SECRET)
        roles.grant(settings, "bob", "analyst", SECRET)
        roles.grant(settings, "bob", "loader")
        roles.grant(settings, "eve", "auditor", SECRET, until=date(2026, 1, 31))
        with connect(settings, autocommit=True) as connection:
            execute(connection, f"create role mallory login password '{SECRET}'")
            for name in ("granary", "analyst", "eraser"):
                execute(connection, f"alter role {name} password '{SECRET}'")
            execute(connection, "create schema marts")
            execute(connection, "create table marts.numbers as select 7 as number")
            execute(connection, "grant usage on schema marts to analyst")
            execute(connection, "grant select on marts.numbers to analyst")
            execute(connection, "create database granary_dagster")
        yield settings


def client(port: int, user: str = "ada", password: str = SECRET, host: str = "127.0.0.1", **more: Any) -> Any:
    words: dict[str, Any] = {"dbname": "granary", "sslmode": "disable", "connect_timeout": 10} | more
    return psycopg.connect(host=host, port=port, user=user, password=password, **words)


def test_a_server_listens_nowhere_until_it_is_told_to(settings: Settings) -> None:
    if settings.external:
        pytest.skip("where an external server listens is its own affair")
    with connect(settings) as connection:
        assert query(connection, "select current_setting('listen_addresses'), current_setting('port')") == [
            ("", "5432")
        ]
    mine = "local all all peer map=owner\nlocal replication granary peer map=owner\n"
    assert configuration.rules(listen.load(settings.home))["pg_hba.conf"] == mine


def test_a_colleague_reads_the_marts_and_nothing_else(open_server: Settings, port: int) -> None:
    with client(port) as ada:
        assert ada.execute("select current_user, number from marts.numbers").fetchone() == ("ada", 7)
        for statement in ("select * from ops.load_audit", "set role loader", "create table mine (x int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ada.execute(statement)
            ada.rollback()


@pytest.mark.parametrize(
    ("user", "password", "database", "words"),
    [
        ("ada", "wrong", "granary", "password authentication failed"),
        ("ada", SECRET, "postgres", "no pg_hba.conf entry"),
        ("ada", SECRET, "granary_dagster", "no pg_hba.conf entry"),
        ("nobody_at_all", SECRET, "granary", "no pg_hba.conf entry"),
        ("mallory", SECRET, "granary", "no pg_hba.conf entry"),  # a login without a role of the warehouse
        ("granary", SECRET, "granary", "pg_hba.conf rejects connection"),  # the owner, whatever their password
        ("analyst", SECRET, "granary", "pg_hba.conf rejects connection"),  # a role as which processes work
        ("eraser", SECRET, "granary", "pg_hba.conf rejects connection"),
        ("bob", SECRET, "granary", "pg_hba.conf rejects connection"),  # reads, but may write, too
        ("eve", SECRET, "granary", "password authentication failed"),  # her password has ended
    ],
)
def test_nobody_else_gets_in(
    open_server: Settings, port: int, user: str, password: str, database: str, words: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match=words):
        client(port, user, password, dbname=database)


def test_who_is_revoked_is_out(open_server: Settings, port: int) -> None:
    roles.grant(open_server, "carl", "analyst", SECRET)
    session = client(port, "carl")
    assert roles.revoke(open_server, "carl") == "dropped"
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        session.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry"):
        client(port, "carl")


def test_a_login_has_its_limits(open_server: Settings, port: int) -> None:
    roles.grant(open_server, "dora", "analyst", SECRET, roles.Limits(2, "100ms", "100ms"))
    with client(port, "dora") as one, client(port, "dora", autocommit=True) as two:
        with pytest.raises(psycopg.OperationalError, match='too many connections for role "dora"'):
            client(port, "dora")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            two.execute("select pg_sleep(60)")
        one.execute("select 1")  # and then nothing, in a transaction
        assert select.select([one.pgconn.socket], [], [], 60)[0]
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            one.execute("select 1")
    roles.grant(open_server, "dora", "analyst", limits=roles.Limits(3))
    found = {login.login: login for login in roles.logins(open_server)}
    assert found["dora"] == roles.Login("dora", ("analyst",), roles.Limits(3, "100ms", "100ms"), None)
    assert found["ada"].limits == roles.Limits(10, "10min", "5min")
    assert found["eve"] == roles.Login("eve", ("auditor",), roles.Limits(5, "10min", "5min"), "2026-02-01T00:00Z")
    assert found["bob"].roles == ("loader", "analyst")
    assert "mallory" not in found
    with pytest.raises(UsageError, match="is no duration"):
        roles.grant(open_server, "dora", "analyst", limits=roles.Limits(statement="1min'; drop"))
    roles.revoke(open_server, "dora")


def test_colleagues_cannot_take_every_connection(open_server: Settings) -> None:
    with connect(open_server, role="loader") as connection:
        sql = (
            "select current_setting('reserved_connections')::int,"
            " pg_has_role('loader', 'pg_use_reserved_connections', 'usage'),"
            " pg_has_role('ada', 'pg_use_reserved_connections', 'member')"
        )
        assert query(connection, sql) == [(40, True, False)]


def test_the_socket_keeps_its_name_and_a_killed_server_listens_again(open_server: Settings, port: int) -> None:
    os.kill(server.postmaster(plan(open_server.home)) or 0, signal.SIGKILL)
    assert server.up(open_server)
    with client(port) as ada:
        assert ada.execute("select inet_server_port()").fetchone() == (port,)
    with psycopg.connect(f"host={open_server.host} port=5432 user=granary dbname=granary") as owner:
        assert owner.execute("select inet_server_port()").fetchone() == (None,)


def test_status_says_where_it_listens_and_that_people_get_in(open_server: Settings, port: int) -> None:
    said = json.loads(granary(open_server, "status", "--json").stdout)
    assert (said["listening"], said["certificate_ends"]) == (f"127.0.0.1:{port}, plain text", None)
    done = granary(open_server, "roles", "grant", "fay", "analyst", "--generate")
    word = done.stdout.partition("shown this once: ")[2].split()[0]
    assert f"Where: postgresql://fay@127.0.0.1:{port}/granary" in done.stdout
    with client(port, "fay", word) as fay:
        assert fay.execute("select number from marts.numbers").fetchone() == (7,)
    assert word not in (open_server.home / "postgres.log").read_text()
    roles.revoke(open_server, "fay")


def test_what_cannot_be_had_is_said_and_nothing_changes(open_server: Settings, port: int) -> None:
    before = listen.load(open_server.home)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(GranaryError, match="the server cannot listen: Address already in use"):
            doors.let_in(open_server, at(taken.getsockname()[1]))
    with pytest.raises(GranaryError, match="Cannot assign requested address"):
        doors.let_in(open_server, at(port + 1 if port < 65535 else port - 1, "192.0.2.77"))
    with client(port) as ada:
        ada.execute("select 1")  # and the transaction is open
        with pytest.raises(GranaryError, match="started anew, and 1 session is at work"):
            doors.let_in(open_server, None)
        assert ada.execute("select 2").fetchone() == (2,)
    assert listen.load(open_server.home) == before
    if not doors.has_tls():
        done = granary(open_server, "up", "--listen", f"0.0.0.0:{port}")
        assert (done.returncode, "was built without TLS" in done.stderr) == (1, True), done.stderr
        assert "--plain-text" in done.stderr


@pytest.mark.parametrize(
    ("where", "clients", "given", "words"),
    [
        ("nonsense", [], None, "is no HOST:PORT"),
        ("127.0.0.1:0", [], None, "is no HOST:PORT"),
        ("host.invalid:5433", [], None, "is unknown"),
        ("127.0.0.1:5433", ["10.0.0.1/8"], None, "is no network"),
        ("127.0.0.1:5433", [], "x.crt", "--certificate and --key go together"),
    ],
)
def test_wrong_use_is_said(settings: Settings, where: str, clients: list[str], given: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        network.open_to(settings, where, clients, Path(given) if given else None, None, plain_text=False)


def test_what_belongs_to_listening_is_not_said_without_it(settings: Settings) -> None:
    done = granary(settings, "up", "--plain-text")
    assert (done.returncode, "these options go with --listen" in done.stderr) == (2, True), done.stderr


def test_only_from_the_networks_that_were_named_and_off_again(open_server: Settings, port: int) -> None:
    before = listen.load(open_server.home)
    done = granary(
        open_server, "up", "--listen", f"0.0.0.0:{port}", "--plain-text", "--from", "10.9.0.0/16"
    )  # it may reach us from everywhere, and lets in that network only
    assert done.returncode == 0, done.stderr
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry"):
        client(port, host="127.0.0.2")
    assert granary(open_server, "up", "--listen", "off").returncode == 0
    with pytest.raises(psycopg.OperationalError, match="refused"):
        client(port)
    with connect(open_server) as connection:
        assert query(connection, "select number from marts.numbers") == [(7,)]
    assert not (open_server.home / "run" / ".s.PGSQL.5432").is_symlink()
    doors.let_in(open_server, before)


def test_with_tls_nobody_can_listen_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, port = postgres_with_tls.folder(), free_port()
    if folder is None:
        pytest.skip(f"{postgres_with_tls.PACKAGE} cannot be had here")
    with own_server(monkeypatch) as settings:  # made by the build without TLS, and taken on by the one with it
        roles.grant(settings, "ada", "analyst", SECRET)
        monkeypatch.setenv("GRANARY_POSTGRES", str(folder))
        assert doors.has_tls()
        done = granary(settings, "up", "--listen", f"0.0.0.0:{port}")
        assert done.returncode == 0, done.stderr
        monkeypatch.delenv("GRANARY_POSTGRES")
        made = settings.home / certificate.CERTIFICATE
        assert f"It listens at 0.0.0.0:{port}, TLS" in done.stdout
        assert str(made) in done.stdout

        def tls(host: str, **more: Any) -> tuple[Any, ...]:
            with client(port, host=host, **{"sslmode": "verify-full", "sslrootcert": str(made)} | more) as ada:
                found = ada.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
                assert found is not None
                return tuple(found)

        assert tls("localhost") == tls("127.0.0.1") == (True, "TLSv1.3")
        assert tls("127.0.0.2", sslmode="verify-ca") == (True, "TLSv1.3")
        with pytest.raises(psycopg.OperationalError, match="does not match host name"):
            tls("127.0.0.2")
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry .* no encryption"):
            tls("127.0.0.1", sslmode="disable")
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba.conf rejects connection"):
            tls("127.0.0.1", user="granary")
        ends = certificate.ends(settings.home, at(port, tls=True))
        assert ends is not None
        assert timedelta(days=824) < ends - datetime.now(timezone.utc) < timedelta(days=825)
        said = json.loads(granary(settings, "status", "--json").stdout)
        assert said["certificate_ends"].startswith(f"{ends:%Y-%m-%d}")

        # A certificate that somebody gave; when its files are replaced, the next start of any command takes it up.
        files = tmp_path / "server.crt", tmp_path / "server.key"
        certificate._make(*files, "127.0.0.2")
        given = at(port, "0.0.0.0", ("all",), tls=True, certificate=str(files[0]), key=str(files[1]))
        doors.let_in(settings, replace(given, server=str(folder)))
        made = files[0]
        assert tls("127.0.0.2") == (True, "TLSv1.3")
        certificate._make(*files, "127.0.0.3")
        server.up(settings)
        assert tls("127.0.0.3") == (True, "TLSv1.3")
        with pytest.raises(GranaryError, match="the server's certificate cannot be used: no such file"):
            doors.let_in(settings, replace(given, key=str(tmp_path / "none.key"), server=str(folder)))
        assert tls("127.0.0.3") == (True, "TLSv1.3")


def test_a_server_without_tls_is_known_as_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRANARY_POSTGRES", str(find_binaries()))
    assert not doors.has_tls()
    monkeypatch.setenv("GRANARY_POSTGRES", str(tmp_path))
    with pytest.raises(GranaryError, match=r"there is no Postgres .*set GRANARY_POSTGRES to the folder"):
        doors.has_tls()
    program = tmp_path / "bin" / "postgres"
    program.parent.mkdir()
    for code, words in (
        ("echo 'postgres (PostgreSQL) 15.14'", r"this is postgres \(PostgreSQL\) 15.14 .*a Postgres 18, which reads"),
        (
            "echo 'libssl.so.3: no such file' >&2; exit 127",
            "this Postgres does not run here: libssl.so.3: no such file",
        ),
    ):
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)
        with pytest.raises(GranaryError, match=words):
            doors.has_tls()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file another user's")
def test_the_home_of_another_user_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 54321, 54321)
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.setenv("GRANARY_HOME", str(tmp_path))
    with pytest.raises(GranaryError) as refused:
        Settings.load()
    assert "this warehouse belongs to user 54321, and its server lets in nobody else" in str(refused.value)
    assert "granary up --listen" in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_hears_whose_a_home_is(open_server: Settings) -> None:
    """A home of root, which they may not even look into."""
    code = (
        "import os; from granary.warehouse.settings import Settings; os.seteuid(65534)\n"
        "try: Settings.load()\nexcept Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=open_server.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("this warehouse belongs to 'root', and its server lets in nobody else, not even root")


def test_secrets_come_from_where_they_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THE_SECRET", SECRET)
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    for source in ("env:THE_SECRET", f"file:{path}", f"command:cat {path}"):
        assert secret.read(source) == SECRET
    path.chmod(0o644)
    for source, words in (
        (f"file:{path}", "others may read the file of a secret"),
        ("file:/nowhere/at/all", "a secret cannot be read: No such file"),
        ("env:NOT_THERE", "there is no secret"),
        ("command:false " + SECRET, "the command for a secret failed: exit code 1"),
        ("command:/not/there", "failed: FileNotFoundError"),
        (SECRET, "this is no source of a secret"),
    ):
        with pytest.raises(GranaryError, match=words) as refused:
            secret.read(source)
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(("days", "well"), [(29, False), (31, True)])
def test_a_certificate_that_is_about_to_end_is_not_well(days: int, well: bool) -> None:
    ends = datetime.now(timezone.utc) + timedelta(days=days)
    health = Health(True, "embedded", listening="0.0.0.0:5432, TLS", certificate_ends=ends)
    assert health.door[0] == f"Colleagues are let in at 0.0.0.0:5432, TLS, certificate until {ends:%Y-%m-%d}."
    assert (health.well, len(health.door)) == (well, 1 if well else 2)
