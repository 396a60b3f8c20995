"""Changes of rows whose number belongs to a forgotten household: neither log nor current table gets them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from granary.cdc.capture import opened
from tests.python.engine.ingestion.test_forgotten import remember
from tests.python.support.captured_shop import ARTICLES, Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings


def test_changes_and_the_initial_copy_leave_them_out(
    warehouse: Settings, shop: Shop, rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    """Household 7 is in the initial copy, is changed, inserted, and once becomes household 8."""
    key, *others = ARTICLES.columns
    marked = replace(ARTICLES, columns=(replace(key, personal="identifier", subject="household"), *others))
    shop.source = replace(shop.source, tables=(marked, *shop.source.tables[1:]))
    remember(warehouse, 7)
    shop.sql("truncate articles", "insert into articles (id, name) values (7, 'a'), (9, 'b')")

    def take(*statements: str) -> None:
        shop.sql(*statements)
        with opened(warehouse, shop.source) as capturing:
            capturing.once()

    current = "select id, name from raw_shop.articles order by id"
    take()
    assert rows(current) == [(9, "b")]
    take(
        "update articles set name = 'c'",
        "update articles set id = 8 where id = 7",
        "insert into articles values (7, 'd')",
    )
    assert rows(current) == [(8, "c"), (9, "c")]
    take("delete from articles where id = 7", "delete from articles where id = 9")
    assert rows(current) == [(8, "c")]
    told = "select cdc_op, id, cdc_key_before from raw_shop.articles_changes where cdc_op <> 'reset'"
    assert rows(told + " order by _load_id, _row") == [
        ("snapshot", 9, None),
        ("update", 9, None),
        ("update", 8, None),
        ("delete", 9, None),
    ]
    lost = "select count(*) from ops.load_audit where rows_read <> rows_loaded + rows_quarantined + rows_forgotten"
    assert rows(lost + " and table_name = 'articles_changes'") == [(0,)]
    assert rows("select sum(rows_forgotten)::int from ops.load_audit where table_name = 'articles_changes'") == [(4,)]
