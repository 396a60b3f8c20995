"""Whose roles are whose on a server with several databases, and what a login may be that makes a warehouse."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from granary.warehouse import role_script, roles, server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.role_names import named
from tests.python.engine.external.conftest import chosen
from tests.python.support.command import granary
from tests.python.support.external_server import ADMINISTRATOR, make_rights, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings
    from tests.python.support.external_server import Server


@pytest.fixture(scope="module")
def shop(managed: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return a warehouse with the least rights."""
    settings = make_rights(managed, tmp_path_factory.mktemp("shop"))
    with chosen(settings):
        server.prepare(settings)
        yield settings


def test_the_owner_of_another_database_becomes_no_role_of_ours_and_stays_outside(
    managed: Server, shop: Settings, tmp_path: Path
) -> None:
    with managed.connect() as connection:
        connection.execute("create role rival login createrole createdb")
        connection.execute("create database rival owner rival")
    rival = replace(managed.settings(tmp_path), user="rival", database="rival", host=str(managed.folder), password=None)
    with chosen(rival):
        server.prepare(rival)  # a warehouse beside ours: its roles are its own
        with connect(rival) as connection:
            assert query(connection, "select ops.role_name('loader')") == [("rival_loader",)]
    for role in ("shop_transformer", "shop_loader", "shop_eraser", "shop_analyst_pii"):
        with managed.connect("rival", "rival") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"set role {role}")
    for database in (shop.database, shop.dagster_database):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            managed.connect(database, "rival")


def test_a_login_that_may_make_roles_and_databases_needs_no_script(managed: Server, tmp_path: Path) -> None:
    """Since Postgres 16 it has of a role that it makes neither the rights nor the right to become it."""
    with managed.connect() as connection:
        connection.execute(f"alter role {ADMINISTRATOR} password {quoted()}")
    settings = replace(managed.settings(tmp_path), user=ADMINISTRATOR, database="market")
    with chosen(settings):
        server.prepare(settings)
        for role in ("loader", "transformer", "analyst", "auditor", "monitor", "eraser"):
            with connect(settings, role=role) as connection:
                assert query(connection, "select current_user::text") == [(f"market_{role}",)]
        assert roles.grant(settings, "ada", "analyst", "a password")
        assert next(one.members for one in roles.roles(settings) if one.role == "analyst") == (
            "ada",
            "market_analyst_pii",
        )


def test_a_warehouse_keeps_the_names_that_its_roles_were_made_with(
    managed: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(managed.settings(tmp_path), user=ADMINISTRATOR, database="kept", host=str(managed.folder))
    with chosen(settings):
        monkeypatch.setenv("GRANARY_ROLE_PREFIX", "")
        server.prepare(settings)
        monkeypatch.delenv("GRANARY_ROLE_PREFIX")
        for earlier in (False, True):
            with connect(settings) as connection:
                if earlier:  # before names had a beginning, no function said it
                    execute(connection, "drop function ops.role_name(text) cascade")
                    execute(connection, "delete from ops.migrations where number = 0")
                    connection.commit()
            server.prepare(settings)
            with connect(settings, role="loader") as connection:
                assert query(connection, "select current_user::text") == [("loader",)]
        monkeypatch.setenv("GRANARY_ROLE_PREFIX", "other_")
        with pytest.raises(GranaryError, match="begin with '', and GRANARY_ROLE_PREFIX says 'other_'"):
            server.prepare(settings)


def test_the_command_names_roles_as_the_server_does_and_people_get_them(shop: Settings, managed: Server) -> None:
    """The login makes no logins: who administers the server has made this one."""
    with managed.connect() as connection:
        connection.execute("create role bob login")
    done = granary(shop, "roles", "grant", "bob", "analyst")
    assert done.returncode == 0, done.stderr
    listed = json.loads(granary(shop, "roles", "--json").stdout)
    assert [(one["role"], one["name"]) for one in listed][:2] == [
        ("loader", "shop_loader"),
        ("transformer", "shop_transformer"),
    ]
    assert listed[2]["members"] == ["bob", "shop_analyst_pii"]
    assert "shop_analyst     may read marts" in granary(shop, "roles").stdout
    refused = granary(shop, "roles", "grant", "cleo", "analyst")
    assert refused.returncode == 1
    assert "the warehouse's login must administer roles" in refused.stderr
    taken = granary(shop, "roles", "grant", "shop_loader", "analyst")
    assert taken.returncode == 2
    assert "is a role of the warehouse, and no person" in taken.stderr


def test_a_login_without_rights_is_told_what_to_run(shop: Settings) -> None:
    with pytest.raises(GranaryError, match=r"may not create the database nowhere .*granary roles script"):
        server.prepare(shop.at("nowhere"))


def test_the_script_is_printed_for_each_kind_of_server(shop: Settings) -> None:
    done = granary(shop, "roles", "script", "--for", "azure")
    assert done.returncode == 0
    assert done.stdout.strip() == role_script.script(shop, "azure").strip()
    assert "pg_read_all_data" not in done.stdout
    assert 'grant pg_read_all_data to "shop_eraser"' in role_script.script(shop, "plain")
    wrong = granary(shop, "roles", "script", "--for", "oracle")
    assert wrong.returncode == 2
    assert "plain, rds, cloudsql, azure" in wrong.stderr
    with pytest.raises(GranaryError, match="more than 63 bytes"):
        role_script.script(shop, "rds", "x" * 60)
    with pytest.raises(UsageError, match="is one of the roles"):
        role_script.script(replace(shop, user="shop_loader"), "rds")


def test_names_of_roles_are_quoted_wherever_they_stand() -> None:
    sql = "grant {loader} to {transformer}; select '{loader}', '{prefix}', '{other}', '{}'"
    assert named(sql, "o'n\"e_") == (
        "grant \"o'n\"\"e_loader\" to \"o'n\"\"e_transformer\"; select 'o''n\"e_loader', 'o''n\"e_', '{other}', '{}'"
    )
