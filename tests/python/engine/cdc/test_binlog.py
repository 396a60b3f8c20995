"""A capture by the binary log of a MariaDB: copy and log without gap or overlap, each kind of change, altered tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from granary.cdc.capture import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings
    from tests.python.support.binlog_shop import BinlogShop

    Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def take(warehouse: Settings, stall: BinlogShop) -> Callable[..., int]:
    """Return a function that commits statements at the source, captures, and returns the changes stored."""
    stall.sql("truncate articles", 'truncate "Order Lines"', "truncate pages")

    def run(*statements: str, transaction: bool = False) -> int:
        stall.sql(*(["begin", *statements, "commit"] if transaction else statements))
        with opened(warehouse, stall.source) as capturing:
            return capturing.once().changes

    run()
    return run


def test_each_kind_of_change_with_its_time(take: Callable[..., int], stall: BinlogShop, rows: Rows) -> None:
    insert = "insert into articles values (1, 'pen', 1.50, true, '2024-02-29', '2024-01-01 12:00:00.000001', 0.1)"
    assert take(insert, "update articles set price = 2, sold = null where id = 1", transaction=True) == 2
    assert take("update articles set id = 2 where id = 1", "delete from articles where id = 2") == 2
    assert take("truncate articles", "insert into articles (id, name) values (3, '')") == 2
    found = rows(
        "select cdc_op, cdc_seq, id, name, price::text, sold, since::text, seen_at::text, weight, cdc_key_before"
        " from raw_stall.articles_changes where cdc_op <> 'reset' order by _load_id, _row"
    )
    one = ("2024-02-29", "2024-01-01 12:00:00.000001+00", 0.1, None)
    assert found == [
        ("insert", 1, 1, "pen", "1.50", True, *one),
        ("update", 2, 1, "pen", "2.00", None, *one),
        ("update", 1, 2, "pen", "2.00", None, *one[:3], '{"id": "1"}'),
        ("delete", 1, 2, None, None, None, None, None, None, None),
        ("truncate", 1, None, None, None, None, None, None, None, None),
        ("insert", 1, 3, "", None, None, None, None, None, None),
    ]


def test_copy_and_log_are_the_same_as_the_source(warehouse: Settings, stall: BinlogShop) -> None:
    for _ in stall.commits(1, 100):
        pass
    with opened(warehouse, stall.source) as capturing:
        capturing.once()
    assert stall.differences(warehouse) == {}
    for _ in stall.commits(2, 300):
        pass
    with opened(warehouse, stall.source) as capturing:
        assert capturing.once().changes > 300
    assert stall.differences(warehouse) == {}
