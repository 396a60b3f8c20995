"""`granary roles`: what it lists, and that people get in with their role and are out without it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from psycopg.errors import InsufficientPrivilege

from granary.warehouse import roles, server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.support.command import granary, own_server

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

SECRET = "correct horse battery staple"


def members(settings: Settings, role: str) -> tuple[str, ...]:
    return next(one.members for one in roles.roles(settings) if one.role == role)


def test_the_roles_are_made_and_listed_as_often_as_one_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that a person has dropped."""
    with own_server(monkeypatch) as settings:
        with connect(settings, autocommit=True) as connection:
            execute(connection, "drop owned by auditor")
            execute(connection, "drop role auditor")
        for _ in range(2):
            done = granary(settings, "roles", "--json")
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)
            assert [one["role"] for one in said] == [
                "loader",
                "transformer",
                "analyst",
                "analyst_pii",
                "auditor",
                "monitor",
            ]
            assert [one["members"] for one in said] == [[], [], ["analyst_pii"], [], [], []]
        with connect(settings, role="auditor") as connection:
            assert query(connection, "select count(*) from ops.load_audit") == [(0,)]
        assert "auditor      may read the records in ops" in granary(settings, "roles").stdout


def test_a_person_gets_in_with_a_password_that_the_server_never_saw(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with own_server(monkeypatch) as settings:
        # As an external server would have it: whoever is not the owner says a password.
        rules = settings.home / "data" / "pg_hba.conf"
        rules.write_text("local all ada scram-sha-256\nlocal all bob scram-sha-256\n" + rules.read_text())
        with connect(settings, autocommit=True) as connection:
            execute(connection, "alter system set log_statement = 'all'")
            execute(connection, "select pg_reload_conf()")
        assert roles.grant(settings, "ada", "analyst", SECRET)
        assert not roles.grant(settings, "ada", "analyst")
        assert members(settings, "analyst") == ("ada", "analyst_pii")
        logs = "".join(path.read_text(errors="replace") for path in settings.home.rglob("*.log"))
        assert 'alter role "ada" password' in logs
        assert SECRET not in logs
        with connect(settings) as connection:
            assert query(
                connection, "select rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname = 'ada'"
            ) == [(True,)]

        ada = replace(settings, user="ada")
        monkeypatch.setenv("PGPASSWORD", "wrong")
        with pytest.raises(GranaryError, match="password authentication failed"):
            connect(ada)
        monkeypatch.setenv("PGPASSWORD", SECRET)
        with connect(ada) as connection:
            assert query(connection, "select current_user::text") == [("ada",)]
            with pytest.raises(InsufficientPrivilege):
                execute(connection, "select * from ops.load_audit")
        roles.grant(settings, "ada", "auditor")
        session = connect(ada)
        assert query(session, "select count(*) from ops.load_audit") == [(0,)]
        session.commit()
        assert roles.revoke(settings, "ada", "auditor") == "kept"
        with pytest.raises(InsufficientPrivilege):
            execute(session, "select * from ops.load_audit")
        session.rollback()

        assert roles.revoke(settings, "ada") == "dropped"
        with pytest.raises(Exception, match="terminating connection"):
            execute(session, "select 1")
        with pytest.raises(GranaryError, match="password authentication failed"):
            connect(ada)
        with pytest.raises(GranaryError, match="there is no login 'ada'"):
            roles.revoke(settings, "ada")

        # Who owns something keeps it, and cannot log in; a new grant lets them in again.
        roles.grant(settings, "bob", "loader", SECRET)
        with connect(replace(settings, user="bob")) as connection:
            execute(connection, "create schema raw_bob")
            connection.commit()
        assert roles.revoke(settings, "bob") == "closed"
        with pytest.raises(GranaryError, match="not permitted to log in"):
            connect(replace(settings, user="bob"))
        assert not roles.grant(settings, "bob", "analyst")
        connect(replace(settings, user="bob")).close()
        server.down(settings)


def test_a_password_comes_by_a_pipe_and_is_not_repeated(warehouse: Settings) -> None:
    command = [
        sys.executable,
        "-c",
        "from granary.cli.main import main; main()",
        "roles",
        "grant",
        "granary_eve",
        "analyst",
    ]
    try:
        done = subprocess.run(
            [*command, "--password"],
            input=f"{SECRET}\n",
            env=warehouse.environment(),
            text=True,
            capture_output=True,
            check=True,
        )
        assert SECRET not in done.stdout + done.stderr
        assert "granary_eve has the role analyst, and a new login." in done.stdout
        with connect(warehouse) as connection:
            has = "select rolpassword like 'SCRAM%' from pg_authid where rolname = 'granary_eve'"
            assert query(connection, has) == [(True,)]
    finally:
        roles.revoke(warehouse, "granary_eve")


@pytest.mark.parametrize(
    ("person", "role", "words"),
    [
        (
            "alice",
            "boss",
            "there is no role 'boss'; choose one of loader, transformer, analyst, analyst_pii, auditor, monitor",
        ),
        ("analyst", "loader", "'analyst' is a role of the warehouse, and no person"),
        ("pg_monitor", "analyst", "is a role of the warehouse, and no person"),
        ("x" * 64, "analyst", "cannot be a name in Postgres"),
    ],
)
def test_what_cannot_be_granted_is_said(settings: Settings, person: str, role: str, words: str) -> None:
    with pytest.raises(GranaryError) as refused:
        roles.grant(settings, person, role)
    assert words in str(refused.value)


def test_administrators_are_left_alone(settings: Settings) -> None:
    with connect(settings, autocommit=True) as connection:
        execute(connection, "create role granary_admin superuser login")
        try:
            for way in (
                lambda: roles.grant(settings, "granary_admin", "analyst"),
                lambda: roles.revoke(settings, "granary_admin"),
            ):
                with pytest.raises(GranaryError, match="administers this server"):
                    way()
        finally:
            execute(connection, "drop role granary_admin")
