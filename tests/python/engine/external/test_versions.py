"""Every version of Postgres that is promised: made, loaded, built and published with the least rights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.dagster.instance import prepare_instance
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from tests.python.engine.external.conftest import Tills, chosen, server_of
from tests.python.support.external_server import DATABASE, LOGIN, VERSIONS, make_rights

if TYPE_CHECKING:
    from pathlib import Path

RIGHTS = """
select rolsuper or rolcreaterole or rolcreatedb, (
    select string_agg(datname, ' ' order by datname) from pg_database where datdba = login.oid
), (
    select string_agg(datname, ' ' order by datname) from pg_database
    where datdba = login.oid and has_database_privilege('public', oid, 'connect')
)
from pg_roles as login where rolname = session_user
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_loaded_built_and_published_with_the_least_rights(version: int, tmp_path: Path) -> None:
    """What the administrator's script gives is enough, and the login has nothing else."""
    with server_of(version) as given:
        settings = make_rights(given, tmp_path / "home")
        with chosen(settings):
            assert server.prepare(settings)[0] == "0001_ops_tables.sql"
            assert server.prepare(settings) == ()
            prepare_instance(settings)
            with connect(settings) as connection:
                assert query(connection, RIGHTS) == [(False, f"{DATABASE} {DATABASE}_dagster", None)]
                assert str(query(connection, "select version()")[0][0]).split()[1].startswith(f"{version}.")
            tills = Tills(tmp_path / "till", settings)
            tills.put("2017-01-02")
            assert tills.load().rows_loaded == 2
            tills.build()
            assert tills.published() == [("2017-01-02", 2, "3.00")]
            tills.put("2017-01-03")
            assert tills.load().rows_loaded == 2
            tills.build()
            assert tills.published("transformer") == [("2017-01-02", 2, "3.00"), ("2017-01-03", 2, "3.00")]
            with connect(settings) as connection:
                assert query(
                    connection,
                    "select distinct pg_get_userbyid(relowner)::text, session_user::text from pg_class"
                    " where oid in (to_regclass('marts.fct_receipts'), to_regclass('build.fct_receipts'))",
                ) == [(f"{DATABASE}_transformer", LOGIN)]
