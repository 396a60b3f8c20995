"""What single changes become in the change table and in the current table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.cdc.capture import opened
from granary.cdc.postgres import capturing as of_slot
from granary.load.captured import LostSlotError
from granary.quarantine.replay import entries, replay
from granary.sources.spec import Column
from granary.warehouse.connection import connect, execute
from tests.python.support.captured_shop import ARTICLES, CAPTURER, PAGES, Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def take(warehouse: Settings, shop: Shop) -> Callable[..., int]:
    """Return a function that commits statements at the source, captures, and returns the changes stored."""
    shop.sql('truncate articles, "Order Lines", pages')

    def run(*statements: str, transaction: bool = False) -> int:
        shop.sql(*(["begin", *statements, "commit"] if transaction else statements))
        with opened(warehouse, shop.source) as capturing:
            return capturing.once().changes

    run()
    return run


def test_each_kind_of_change_with_its_lsn_and_time(take: Callable[..., int], shop: Shop, rows: Rows) -> None:
    before = shop.rows("select pg_current_wal_insert_lsn() - '0/0', clock_timestamp()")[0]
    insert = "insert into articles values (1, 'pen', 1.50, true, '2024-02-29', '2024-01-01 12:00:00.000001+02', 0.1)"
    assert take(insert, "update articles set price = 2, sold = null where id = 1", transaction=True) == 2
    assert take("update articles set id = 2 where id = 1", "delete from articles where id = 2") == 2
    assert take("truncate articles", "insert into articles (id, name) values (3, '')") == 2
    shop.sql("select 1")
    after = shop.rows("select pg_current_wal_insert_lsn() - '0/0', clock_timestamp()")[0]
    found = rows(
        "select cdc_op, cdc_seq, id, name, price::text, sold, since::text, seen_at::text, weight, cdc_key_before"
        " from raw_shop.articles_changes where cdc_op <> 'reset' order by _load_id, _row"
    )
    one = ("2024-02-29", "2024-01-01 10:00:00.000001+00", 0.1, None)
    assert found == [
        ("insert", 1, 1, "pen", "1.50", True, *one),
        ("update", 2, 1, "pen", "2.00", None, *one),
        ("update", 1, 2, "pen", "2.00", None, *one[:3], '{"id": "1"}'),
        ("delete", 1, 2, None, None, None, None, None, None, None),
        ("truncate", 1, None, None, None, None, None, None, None, None),
        ("insert", 1, 3, "", None, None, None, None, None, None),
    ]
    lsns = rows("select cdc_lsn, cdc_committed_at, cdc_xid from raw_shop.articles_changes where cdc_op <> 'reset'")
    assert [lsn for lsn, _, _ in lsns] == sorted(lsn for lsn, _, _ in lsns)
    assert all(int(before[0]) <= lsn <= int(after[0]) and before[1] <= at <= after[1] for lsn, at, _ in lsns)
    assert lsns[0][2] == lsns[1][2] != lsns[2][2]
    assert rows("select id, name, price from raw_shop.articles") == [(3, "", None)]


def test_the_ledger_has_a_row_for_each_batch_and_table(take: Callable[..., int], rows: Rows) -> None:
    take("insert into articles (id, name) values (1, 'a'), (2, 'b')", "delete from articles where id = 1")
    found = rows(
        "select table_name, status, rows_read, rows_loaded, rows_quarantined, rows_deleted from ops.load_audit"
        " where source = 'shop' order by load_id desc limit 2"
    )
    assert found == [("articles", "loaded", 1, 1, 0, 0), ("articles_changes", "loaded", 3, 3, 0, 0)]


def test_large_values_that_did_not_change_are_kept(take: Callable[..., int], shop: Shop, warehouse: Settings) -> None:
    page = "insert into pages values ('p', repeat('x', 9000), decode(repeat('00ff', 5000), 'hex'), 0)"
    take(page, "update pages set visits = 1")
    take("update pages set visits = 2", "update pages set slug = 'q'", "update pages set visits = 3")
    take("update pages set body = null", "update pages set visits = 4, slug = 'r'", "update pages set visits = 5")
    assert shop.differences(warehouse) == {}
    assert shop.rows("select slug, body is null, length(picture), visits from pages") == [("r", True, 10000, 5)]


def test_large_values_come_from_the_old_row_where_the_identity_is_full(
    take: Callable[..., int], shop: Shop, warehouse: Settings
) -> None:
    shop.sql("alter table pages replica identity full")
    take("insert into pages values ('p', repeat('x', 9000), null, 0), ('q', repeat('y', 9000), '\\x00', 0)")
    take(
        "update pages set visits = 2",
        "update pages set body = null where slug = 'q'",
        "update pages set slug = 'z'||slug",
    )
    take("delete from pages where slug = 'zp'")
    assert shop.differences(warehouse) == {}


def test_a_large_value_that_is_nowhere_is_refused_not_nulled(
    take: Callable[..., int], warehouse: Settings, shop: Shop, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    take("insert into pages values ('p', repeat('x', 9000), null, 0)")
    with connect(warehouse, autocommit=True) as connection:
        execute(connection, "delete from raw_shop.pages")
        execute(connection, "update ops.raw_tables set row_count = 0 where table_name = 'pages'")
    take("update pages set visits = 1")
    assert rows("select table_name, column_name, reason from ops.quarantine") == [
        ("pages_changes", "body", "did not change, and its value is not here")
    ]
    monkeypatch.setattr("granary.quarantine.replay.SOURCES", {"shop": shop.source})
    (kept,) = replay(warehouse, entries(warehouse), {})
    assert (kept.landed, kept.refused) == ((), ((1, "body did not change, and its value is not here"),))
    (given,) = replay(warehouse, entries(warehouse), {"body": "long", "picture": "\\x00ff"})
    assert (given.landed, given.refused) == ((1,), ())
    assert rows("select slug, body, picture, visits from raw_shop.pages") == [("p", "long", b"\0\xff", 1)]


def test_rows_that_break_the_contract_are_kept_aside(
    take: Callable[..., int], warehouse: Settings, shop: Shop, rows: Rows
) -> None:
    take(
        "alter table articles alter name drop not null",
        "insert into articles (id, name, price) values (1, 'a', -1), (2, null, 1), (3, 'c', 1)",
        "insert into articles (id, name, seen_at) values (4, 'd', 'infinity')",
    )
    refused = "select column_name, reason, payload ->> 'id', payload ->> 'price' from ops.quarantine where load_id > {}"
    assert sorted(rows(refused.format(0))) == [
        ("name", "is null", "2", "1.00"),
        ("price", "is below 0", "1", "-1.00"),
        ("seen_at", "is not a valid timestamp[us, tz=UTC]", "4", None),
    ]
    assert rows("select id, name, price::text from raw_shop.articles") == [(3, "c", "1.00")]
    ((last,),) = rows("select max(load_id) from ops.load_audit")
    shop.sql(
        "alter table articles alter price type text using price::text",
        "update articles set price = 'cheap' where id = 3",
    )
    with pytest.raises(LostSlotError, match=r"price was altered from numeric\(10,2\) to text"):
        take()
    with opened(warehouse, shop.source) as capturing:
        capturing.once(anew=True)
    assert ("price", "is not a valid decimal128(10, 2)", "3", "cheap") in rows(refused.format(last))
    assert rows("select count(*) from raw_shop.articles") == [(0,)]


def test_a_refused_change_is_replayed_once_and_never_over_a_later_one(
    take: Callable[..., int], shop: Shop, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("granary.quarantine.replay.SOURCES", {"shop": shop.source})
    take("alter table articles alter name drop not null", "insert into articles (id, name) values (1, 'a'), (5, 'e')")
    take(
        "update articles set price = -1 where id = 1",
        "insert into articles (id, name, price) values (2, null, 1), (3, 'c', -3)",
        "update articles set price = -5, id = 6 where id = 5",
        "update articles set name = 'C', price = -4 where id = 3",
    )
    take("update articles set price = 7 where id = 1")

    def again(**changes: str) -> tuple[tuple[int, ...], tuple[tuple[int, str], ...]]:
        (result,) = replay(warehouse, entries(warehouse, tables=[("shop", "articles_changes")]), changes)
        return result.landed, result.refused

    later = "has been overtaken: a later change of its row has landed; drop the entry"
    below = [(n, f'price is below 0: "-{price}.00"') for n, price in ((1, 1), (3, 3), (4, 5), (5, 4))]
    assert again() == ((), tuple(sorted([*below, (2, "name is null")])))
    assert again(price="4") == ((3, 4, 5), ((1, later), (2, "name is null")))
    current = "select id, name, price::text from raw_shop.articles order by id"
    assert rows(current) == [(1, "a", "7.00"), (3, "C", "4.00"), (6, "e", "4.00")]
    assert again(name="b") == ((2,), ((1, 'price is below 0: "-1.00"'),))
    assert rows(current) == [(1, "a", "7.00"), (2, "b", "1.00"), (3, "C", "4.00"), (6, "e", "4.00")]
    order = "select cdc_op, id from raw_shop.articles_changes where price = 4 order by _load_id, _row"
    assert rows(order) == [("insert", 3), ("update", 6), ("update", 3)]
    shop.sql("update articles set price = 4 where price < 0", "update articles set name = 'b' where id = 2")
    take("update articles set price = 7 where id = 1")
    assert shop.differences(warehouse) == {}
    assert rows("select status, count(*) from ops.quarantine group by 1 order by 1") == [("open", 1), ("replayed", 4)]


def test_columns_come_go_and_change_in_mid_stream(
    take: Callable[..., int], warehouse: Settings, shop: Shop, rows: Rows
) -> None:
    take(
        "insert into articles (id, name, weight) values (1, 'a', 1)",
        'alter table articles add "Size (cm)" int, add made timestamptz',
        "insert into articles (id, name, \"Size (cm)\", made) values (2, 'b', 7, '2024-01-01Z')",
        "alter table articles drop weight",
        "insert into articles (id, name) values (3, 'c')",
        "alter table articles alter name type varchar",
        'update articles set "Size (cm)" = 8 where id = 1',
    )
    assert rows('select id, weight, "Size (cm)", made::text from raw_shop.articles order by id') == [
        (1, None, 8, None),
        (2, None, 7, "2024-01-01 00:00:00+00"),
        (3, None, None, None),
    ]
    assert rows('select id, weight, "Size (cm)" from raw_shop.articles_changes where id = 1 order by _row') == [
        (1, 1.0, None),
        (1, None, 8),
    ]
    changes = rows("select column_name, change, detail from ops.schema_changes where table_name = 'articles'")
    assert ("weight", "missing", "double precision; null from here on") in changes
    assert ("name", "retyped", "text became character varying") in changes
    assert {column for column, change, _ in changes if change == "added"} == {"Size (cm)", "made"}


def test_types_arrive_as_they_are_in_the_source(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    kinds = {
        "c": "char(5)", "i": "inet", "v": "interval", "j": "jsonb", "a": "int[]", "u": "uuid", "n": "numeric",
        "r": "real", "b": "bytea", "t": "timestamp", "o": "boolean", "e": "mood", "x": "bit(3)",
    }  # fmt: skip
    values = (
        "'ab', '10.0.0.1', '1 day 02:03:04.5', '{\"k\": [1, null]}', '{1,null,3}',"
        " '11111111-1111-1111-1111-111111111111', 12345678901234567890.123, 1e-7, '\\x00ff', '2024-01-01 00:00:00.5',"
        " false, 'it''s ok', B'101'"
    )
    table = replace(
        PAGES,
        name="kinds",
        location="public.kinds",
        key=("id",),
        columns=(Column("id", pa.int64(), "Key.", nullable=False), Column("o", pa.bool_(), "A boolean.")),
    )
    shop.sql(
        "create type mood as enum ('it''s ok')",
        f"create table kinds (id int primary key, {', '.join(f'{name} {kind}' for name, kind in kinds.items())})",
        'alter publication "granary shop" add table kinds',
        f"grant select on kinds to {CAPTURER}",
        f"insert into kinds values (1, {values})",
    )
    source = replace(shop.source, tables=(table,))
    with opened(warehouse, source) as capturing:
        capturing.once()
        shop.sql(f"insert into kinds values (2, {values})")
        capturing.once()
    copied, streamed = rows(f"select {', '.join(kinds)} from raw_shop.kinds order by id")
    assert copied == streamed
    given = dict(zip(kinds, copied, strict=True))
    assert given["c"] == "ab   "
    assert given["i"] == "10.0.0.1"
    assert given["b"] == b"\x00\xff"
    assert given["o"] is False
    assert given["n"] == "12345678901234567890.123"
    assert given["x"] == "101"


def test_a_transaction_larger_than_a_batch_lands_whole(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch, rows: Rows
) -> None:
    monkeypatch.setattr(of_slot, "PEEK_MESSAGES", 10)
    with opened(warehouse, shop.source) as capturing:
        capturing.once()
        # 30 MB, so that one peek comes in two pieces with the transaction's seam between them.
        shop.sql(
            "truncate articles",
            "insert into articles (id, name) select n, repeat('x', 200) from generate_series(1, 130000) as n",
            *(f"update articles set name = 'u{n}' where id = {n}" for n in range(1, 8)),
        )
        assert capturing.once().changes >= 130007
    assert shop.differences(warehouse) == {}
    assert rows(
        "select max(cdc_seq), count(distinct cdc_seq) from raw_shop.articles_changes where cdc_op = 'insert'"
    ) == [(130000, 130000)]


def test_a_partitioned_table_arrives_under_its_own_name(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    source = shop.days()
    shop.sql("insert into days values ('2024-01-05', 1)")
    with opened(warehouse, source) as capturing:
        capturing.once()
        shop.sql(
            "insert into days values ('2024-02-05', 2), ('2024-02-06', 3)",
            "update days set day = '2024-02-07' where n = 1",
            "delete from days where n = 3",
        )
        capturing.once()
    assert rows("select day::text, n from raw_shop.days order by n") == [("2024-02-07", 1), ("2024-02-05", 2)]


def test_only_the_rows_and_columns_that_are_published(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    shop.sql(
        'alter publication "granary shop" set table articles (id, name) where (id > 10)',
        "truncate articles",
        "insert into articles (id, name, price) values (1, 'no', 1), (11, 'yes', 1)",
    )
    table = replace(ARTICLES, columns=ARTICLES.columns[:2])
    with opened(warehouse, replace(shop.source, tables=(table,))) as capturing:
        capturing.once()
        shop.sql("insert into articles (id, name) values (2, 'no'), (12, 'yes')")
        capturing.once()
    assert rows("select id from raw_shop.articles order by id") == [(11,), (12,)]
    assert rows("select count(*) from information_schema.columns where table_schema = 'raw_shop'") == [(4 + 10,)]
