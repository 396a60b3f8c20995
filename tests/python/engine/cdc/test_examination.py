"""`granary doctor SOURCE` at captured sources: rights, slots, logs, publications, before and after the first copy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from granary.cdc.capture import opened
from granary.cdc.examination import examine
from granary.warehouse.connection import connect, query
from tests.python.support.binlog_shop import SETTING as STALL
from tests.python.support.worked_examples import example

if TYPE_CHECKING:
    import pytest

    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings
    from tests.python.support.binlog_shop import BinlogShop
    from tests.python.support.captured_shop import Shop


def words(warehouse: Settings, source: Source) -> list[tuple[str, str]]:
    return [(one.what, one.severity) for one in examine(warehouse, source)]


UNLIMITED = ("a capture that stands still keeps the source's log without a limit", "hint")
NOTHING_YET = "nothing has been copied yet; run `granary capture "


def test_a_postgres_before_and_after_its_first_copy(warehouse: Settings, shop: Shop) -> None:
    assert words(warehouse, shop.source) == [
        UNLIMITED,
        ("nothing has been copied yet; run `granary capture shop`", "hint"),
    ]
    with opened(warehouse, shop.source) as capturing:
        capturing.once()
    assert words(warehouse, shop.source) == [UNLIMITED]


MAKE = (
    'have the tables\' owner run: create publication "granary shop" for table "public"."articles",'
    ' "public"."Order Lines", "public"."pages" with (publish_via_partition_root = true'
)


def test_a_source_without_publication(warehouse: Settings, shop: Shop) -> None:
    """A stranger's server: who may make the publication, and each table that our role may not read."""
    shop.sql('drop publication "granary shop"')
    (found,) = [one for one in examine(warehouse, shop.source) if "publication" in one.what]
    assert (found.what, found.severity) == (
        "there is no publication granary shop, and our role may not make it",
        "problem",
    )
    assert found.todo.startswith(MAKE)
    shop.sql(
        "revoke select on articles from capturer",
        "create schema hidden",
        "alter table pages set schema hidden",
        "grant select on hidden.pages to capturer",
    )
    pages = replace(shop.source.tables[2], location="hidden.pages")
    source = replace(shop.source, tables=(*shop.source.tables[:2], pages))
    refused = [(one.what, one.todo) for one in examine(warehouse, source) if one.what.startswith("our role")]
    assert refused == [
        ("our role may not read the table", 'run `grant select on "public"."articles" to` our role there'),
        ("our role may not use the schema hidden", 'run `grant usage on schema "hidden" to` our role there'),
    ]


def test_a_publication_that_our_role_may_make(warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sql('drop publication "granary shop"')
    monkeypatch.setenv("GRANARY_SHOP_URL", shop.origin.uri(shop.database))  # as the owner
    (found,) = [one for one in examine(warehouse, shop.source) if "publication" in one.what]
    assert (found.what, found.severity) == ("there is no publication granary shop yet", "hint")
    assert found.todo == "the first `granary capture shop` makes it"


def test_a_role_that_may_not_replicate(warehouse: Settings, shop: Shop) -> None:
    shop.sql("alter role capturer noreplication")
    try:
        (found,) = examine(warehouse, shop.source)
    finally:
        shop.sql("alter role capturer replication")
    assert (found.severity, found.what) == ("problem", "role capturer may not replicate")
    assert found.todo == 'run `alter role "capturer" replication` there'


def test_a_binary_log_that_is_thrown_away_soon(warehouse: Settings, stall: BinlogShop) -> None:
    server = stall.server
    ((kept,),) = server.run("select @@global.binlog_expire_logs_seconds")
    server.run("set global binlog_expire_logs_seconds = 3600")
    try:
        found = list(examine(warehouse, stall.source))
    finally:
        server.run(f"set global binlog_expire_logs_seconds = {kept}")
    assert (found[0].what, found[0].how_large, found[0].severity) == (
        "the source throws its log away soon",
        "after 3,600 s",
        "hint",
    )
    assert [(one.what[: len(NOTHING_YET)], one.severity) for one in found[1:]] == [(NOTHING_YET, "hint")]


def test_a_table_that_is_not_there(warehouse: Settings, stall: BinlogShop, monkeypatch: pytest.MonkeyPatch) -> None:
    table = stall.source.tables[0]
    source = replace(stall.source, tables=(replace(table, location=f"{stall.database}.gone"),))
    (found,) = [one for one in examine(warehouse, source) if one.severity == "problem"]
    assert "gone" in f"{found.what} {found.where}"
    monkeypatch.setenv(STALL, stall.uri.replace("capturer:", "nobody:"))
    (refused,) = examine(warehouse, stall.source)
    assert refused.severity == "problem"
    assert "Access denied" in refused.what


def test_the_guide_s_example_of_a_postgres(warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sql(
        'create table customers (id bigint primary key, name text, "Credit Limit" numeric(12, 2))',
        "insert into customers values (1, 'Ada', 5), (2, 'Bo', 6)",
        "create publication granary for table customers with (publish_via_partition_root = true)",
        "grant select on customers to capturer",
    )
    source = example("change-capture", monkeypatch, GRANARY_ERP_URL=shop.uri)
    try:
        captured(warehouse, source)
        shop.sql("delete from customers where id = 1", "update customers set name = 'Cy' where id = 2")
        captured(warehouse, source)
        with connect(warehouse) as connection:
            assert query(connection, "select id, name, credit::text from raw_erp.customers") == [(2, "Cy", "6.00")]
    finally:
        with opened(warehouse, source) as capturing:
            capturing.drop()


def test_the_guide_s_example_of_a_binary_log(
    warehouse: Settings, stall: BinlogShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = stall.server
    server.run(
        "create database erp",
        "create table erp.customers (id bigint primary key, name text, since date)",
        "insert into erp.customers values (1, 'Ada', '2020-01-01'), (2, 'Bo', null)",
    )
    try:
        source = example("binlog-capture", monkeypatch, GRANARY_ERP_URL=server.captured("erp"))
        captured(warehouse, source)
        server.run("delete from erp.customers where id = 1", "update erp.customers set name = 'Cy' where id = 2")
        captured(warehouse, source)
        with connect(warehouse) as connection:
            assert query(connection, "select id, name, since::text from raw_erp.customers") == [(2, "Cy", None)]
    finally:
        server.run("drop database erp")


def captured(warehouse: Settings, source: Source) -> None:
    with opened(warehouse, source) as capturing:
        capturing.once()
