"""The SQL that each dialect gets; for SQL Server and Oracle this is all that is tested, for no server is here."""
# ruff: noqa: DTZ001 - times without a zone are what is tested

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.dialects import mssql, mysql, oracle, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from granary.readers.database.connecting import Database
from granary.readers.database.snapshot import _begin
from granary.readers.database.sql import select_part, source
from granary.readers.database.types import delivered, of_postgres, of_sqlalchemy
from granary.readers.database.values import Field
from granary.readers.database.window import Part
from granary.warehouse.errors import GranaryError
from tests.python.engine.databases.conftest import INSTANT

START = datetime(2017, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
FIELDS = [Field("id", pa.int64(), nullable=False), Field("changed_at", INSTANT, nullable=True)]


def compiled(dialect: Dialect, part: Part, scn: int | None = None, name: str = "orders") -> tuple[str, dict[str, Any]]:
    found = select_part(dialect, source(dialect, "sales", name, scn), FIELDS, part).compile(dialect=dialect)
    return " ".join(str(found).split()), dict(found.params)


def test_sql_server() -> None:
    sql, values = compiled(mssql.dialect(), Part("changed_at", START))
    assert sql == (
        "SELECT id, changed_at FROM sales.orders WHERE changed_at >= :param_1 OR changed_at IS NULL"
        if ":param_1" in sql
        else "SELECT id, changed_at FROM sales.orders WHERE changed_at >= %(param_1)s OR changed_at IS NULL"
    )
    assert values == {"param_1": datetime(2017, 1, 2, 3, 4, 5)}
    sql, values = compiled(mssql.dialect(), Part(), name="Order Lines")
    assert sql == "SELECT id, changed_at FROM sales.[Order Lines]"


def test_oracle() -> None:
    sql, values = compiled(oracle.dialect(), Part(key="id", low=100, high=200), scn=42)
    assert sql == (
        'SELECT id, sys_extract_utc(changed_at) AS changed_at FROM sales.orders as of scn :scn'
        " WHERE id >= :param_1 AND id < :param_2"
    )  # fmt: skip
    assert values == {"scn": 42, "param_1": 100, "param_2": 200}
    sql, values = compiled(oracle.dialect(), Part("changed_at", START))
    assert "WHERE changed_at >= from_tz(:param_1, :from_tz_1) OR changed_at IS NULL" in sql
    assert values == {"param_1": datetime(2017, 1, 2, 3, 4, 5), "from_tz_1": "UTC"}


def test_mysql() -> None:
    sql, values = compiled(mysql.dialect(), Part(key="id", low=None, high=200), name="a`b")
    assert sql == "SELECT id, changed_at FROM sales.`a``b` WHERE id < %s"
    assert values == {"param_1": 200}


def test_sqlite_compares_the_date_that_every_way_of_writing_begins_with() -> None:
    sql, values = compiled(sqlite.dialect(), Part("changed_at", START))
    assert sql == (
        "SELECT id, changed_at FROM sales.orders WHERE typeof(changed_at) != ? OR changed_at >= ? OR changed_at IS NULL"
    )
    assert list(values.values()) == ["text", "2017-01-01"]


def test_hostile_names_are_quoted() -> None:
    for dialect in (mssql.dialect(), oracle.dialect(), mysql.dialect(), sqlite.dialect()):
        sql, values = compiled(dialect, Part(), name='x"]`; drop table y; :z --')
        assert not values
        assert sql.count("drop table") == 1
        quote = {"mssql": "]", "mysql": "`"}.get(dialect.name, '"')
        body = sql.partition("FROM sales.")[2][1:-1]
        assert quote * 2 in body
        assert quote not in body.replace(quote * 2, "")


KINDS: list[tuple[str, TypeEngine[Any], pa.DataType]] = [
    ("mysql", mysql.TINYINT(display_width=1), pa.bool_()),
    ("mysql", mysql.TINYINT(), pa.int16()),
    ("mysql", mysql.SMALLINT(unsigned=True), pa.int32()),
    ("mysql", mysql.INTEGER(unsigned=True), pa.int64()),
    ("mysql", mysql.BIGINT(unsigned=True), pa.decimal128(20, 0)),
    ("mysql", mysql.DECIMAL(12, 2), pa.decimal128(12, 2)),
    ("mysql", mysql.DECIMAL(65, 2), pa.string()),
    ("mysql", mysql.DATETIME(), pa.timestamp("us")),
    ("mysql", mysql.TIMESTAMP(), INSTANT),
    ("mysql", mysql.YEAR(), pa.int16()),
    ("mysql", mysql.TIME(), pa.string()),
    ("mysql", mysql.JSON(), pa.string()),
    ("mysql", mysql.ENUM("a", "b"), pa.string()),
    ("mysql", mysql.LONGBLOB(), pa.binary()),
    ("mysql", mysql.FLOAT(), pa.float64()),
    ("mssql", mssql.BIT(), pa.bool_()),
    ("mssql", mssql.TINYINT(), pa.int16()),
    ("mssql", mssql.MONEY(), pa.decimal128(19, 4)),
    ("mssql", mssql.DATETIME2(), pa.timestamp("us")),
    ("mssql", mssql.DATETIMEOFFSET(), INSTANT),
    ("mssql", mssql.UNIQUEIDENTIFIER(), pa.string()),
    ("mssql", mssql.ROWVERSION(), pa.binary()),
    ("mssql", mssql.VARBINARY(), pa.binary()),
    ("oracle", oracle.NUMBER(9, 0), pa.int64()),
    ("oracle", oracle.NUMBER(38, 0), pa.decimal128(38, 0)),
    ("oracle", oracle.NUMBER(12, 2), pa.decimal128(12, 2)),
    ("oracle", oracle.NUMBER(), pa.decimal128(38, 9)),
    ("oracle", oracle.DATE(), pa.timestamp("us")),
    ("oracle", oracle.TIMESTAMP(timezone=True), INSTANT),
    ("oracle", oracle.CLOB(), pa.string()),
    ("oracle", oracle.RAW(16), pa.binary()),
]


@pytest.mark.parametrize(("dialect", "kind", "expected"), KINDS)
def test_declared_types(dialect: str, kind: TypeEngine[Any], expected: pa.DataType) -> None:
    assert of_sqlalchemy(kind, dialect).type == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("numeric(12,2)", pa.decimal128(12, 2)),
        ("numeric", pa.decimal128(38, 9)),
        ("numeric(50,2)", pa.string()),
        ("numeric(12,2)[]", pa.string()),
        ("character varying(20)", pa.string()),
        ("timestamp(3) with time zone", INSTANT),
        ("timestamp without time zone", pa.timestamp("us")),
        ("daterange", pa.string()),
        ("date[]", pa.string()),
        ("mood", pa.string()),
        ("oid", pa.int64()),
    ],
)
def test_declared_types_of_postgres(name: str, expected: pa.DataType) -> None:
    assert of_postgres(name).type == expected


def test_a_column_arrives_as_agreed_only_where_that_hides_no_change_of_its_type() -> None:
    bigint, tiny = of_sqlalchemy(mysql.BIGINT(), "mysql"), of_sqlalchemy(mysql.TINYINT(display_width=1), "mysql")
    assert delivered(bigint, pa.int64()) == pa.int64()
    assert delivered(bigint, pa.int32()) == pa.int64()  # wider than agreed: the load seam judges it
    assert delivered(bigint, pa.string()) == pa.int64()  # another kind: the load seam refuses it
    assert delivered(tiny, pa.int32()) == pa.int32()
    assert delivered(tiny, pa.bool_()) == pa.bool_()
    assert delivered(tiny, None) == pa.int16()
    assert delivered(of_postgres("numeric"), None) == pa.string()
    assert delivered(of_postgres("numeric"), pa.decimal128(12, 2)) == pa.decimal128(12, 2)


def database(uri: str) -> Database:
    return Database(uri, timedelta(minutes=1))


def test_uris_for_libpq() -> None:
    uri = database("postgres://u:p%40ss@h:5/db?sslmode=verify-full&connect_timeout=3").libpq
    assert uri.startswith("postgresql://u:p%40ss@h:5/db?sslmode=verify-full&connect_timeout=3&keepalives_idle=")
    assert "&application_name=granary" in uri
    assert uri.count("connect_timeout") == 1
    assert database("postgresql:///db?host=/run").libpq.startswith("postgresql:///db?host=/run&connect_timeout=10&")


def test_no_password_is_shown() -> None:
    found = database("mysql://u:secret-word@h/db")
    assert repr(found) == "Database(mysql, db)"
    for uri in ("nothing", "mysql://u:secret-word@h:port/db", "dbase://u:secret-word@h/db"):
        with pytest.raises(GranaryError) as caught:
            database(uri).engine()
        assert "secret-word" not in str(caught.value)


def test_missing_driver() -> None:
    with pytest.raises(GranaryError, match=r"the driver aiomysql is not installed.*granary-elt\[databases\]"):
        database("mysql+aiomysql://u@h/db").engine()


@pytest.mark.parametrize(
    ("state", "level"),
    [
        ((1, False), "SNAPSHOT"),
        ((1, True), "SNAPSHOT"),
        ((0, True), None),
        ((0, False), "refused"),
        ((2, False), "refused"),
    ],
)
def test_sql_server_is_read_in_a_snapshot_or_not_at_all(state: tuple[int, bool], level: str | None) -> None:
    """2 and 3 are the state while an administrator's change of it is under way."""
    asked: list[Any] = []

    class Connection:
        def exec_driver_sql(self, sql: str) -> Connection:
            assert "sys.databases" in sql
            return self

        def one(self) -> tuple[int, bool]:
            return state

        def rollback(self) -> None:
            """The question's own transaction."""

        def execution_options(self, isolation_level: str) -> None:
            asked.append(isolation_level)

    connection: Any = Connection()
    if level == "refused":
        with pytest.raises(GranaryError, match=r"keeps no snapshots, .*; let its administrator run: alter database"):
            _begin(connection, "mssql", "shop.orders")
    else:
        _begin(connection, "mssql", "shop.orders")
        assert asked == ([level] if level else [])
