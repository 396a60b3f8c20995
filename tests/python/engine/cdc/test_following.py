"""A capture that follows: sent each transaction as it commits, stored exactly once, whatever ends it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from granary.cdc.capture import opened
from granary.cdc.postgres import capturing as of_slot
from granary.cdc.postgres import replication
from granary.cdc.postgres.lsn import lsn_number
from granary.cdc.postgres.origin import Origin
from granary.cdc.postgres.replication import ReplicationRefusedError
from granary.cdc.status import status
from granary.load.captured import LostSlotError

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings
    from tests.python.support.captured_shop import Shop

    Rows = Callable[..., list[tuple[Any, ...]]]

SENDERS = "select count(*) from pg_stat_replication"


def follow(warehouse: Settings, shop: Shop, act: Callable[[], None], changes: int) -> None:
    """Follow, act as soon as the source sends, and end as by Ctrl-C when so many changes have come."""
    with opened(warehouse, shop.source) as capturing:
        replicate = capturing.origin.replicate

        def begun(start: int) -> Any:
            session = replicate(start)
            act()
            return session

        def ended(result: Any) -> None:
            if result.changes >= changes:
                raise KeyboardInterrupt

        capturing.origin.replicate = begun  # type: ignore[method-assign]
        with suppress(KeyboardInterrupt):
            capturing.follow(progress=ended)


def copied(warehouse: Settings, shop: Shop) -> None:
    with opened(warehouse, shop.source) as capturing:
        capturing.once()


def test_changes_are_sent_and_the_slot_moves_on_with_what_is_stored(
    warehouse: Settings, shop: Shop, rows: Rows
) -> None:
    copied(warehouse, shop)
    seen = []

    def act() -> None:
        seen.extend(shop.rows(SENDERS))
        shop.sql("insert into articles (id, name) values (-1, 'one')", "update articles set name = 'two' where id = -1")

    follow(warehouse, shop, act, 2)
    assert seen == [(1,)]
    assert rows("select cdc_op, name from raw_shop.articles_changes where id = -1 order by _load_id, _row") == [
        ("insert", "one"),
        ("update", "two"),
    ]
    found = status(warehouse, shop.source)
    assert found.alarms == ()
    assert lsn_number(found.confirmed_lsn) <= lsn_number(found.lsn)
    copied(warehouse, shop)
    assert shop.differences(warehouse) == {}


def test_a_transaction_that_comes_in_parts_lands_whole(
    warehouse: Settings, shop: Shop, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(warehouse, shop)
    monkeypatch.setattr(replication, "PART_BYTES", 10_000)
    many = "insert into articles (id, name) select -n, repeat('x', 100) from generate_series(1, 5000) as n"
    follow(warehouse, shop, lambda: shop.sql(many, "delete from articles where id = -7"), 5001)
    counted = "select count(*), count(distinct cdc_xid), max(cdc_seq) from raw_shop.articles_changes where id < 0"
    assert rows(counted + " and cdc_op = 'insert'") == [(5000, 1, 5000)]
    assert rows("select count(*) from raw_shop.articles where id < 0") == [(4999,)]
    copied(warehouse, shop)
    assert shop.differences(warehouse) == {}


def test_a_source_that_does_not_replicate_is_looked_at(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(warehouse, shop)
    monkeypatch.setattr(of_slot, "POLL_SECONDS", 0)
    asked = []

    def refuse(self: Origin, start: int) -> Any:
        asked.append(start)
        shop.sql(f"insert into articles (id, name) values (-{len(asked)}, 'new')")
        raise ReplicationRefusedError("a pooler is in between")

    monkeypatch.setattr(Origin, "replicate", refuse)
    with opened(warehouse, shop.source) as capturing, suppress(KeyboardInterrupt):

        def ended(result: Any) -> None:
            if result.changes >= 3:
                raise KeyboardInterrupt

        capturing.follow(progress=ended)
    assert len(asked) == 3
    assert shop.differences(warehouse) == {}


def test_a_table_that_is_altered_stops_it_before_a_change_of_it_is_stored(
    warehouse: Settings, shop: Shop, rows: Rows
) -> None:
    copied(warehouse, shop)

    def act() -> None:
        shop.sql(
            "insert into articles (id, name) values (-1, 'before')",
            "alter table articles add column sort text default 'usual'",
            "insert into articles (id, name) values (-2, 'after')",
        )

    with pytest.raises(LostSlotError, match="table articles was altered"):
        follow(warehouse, shop, act, 10)
    assert rows("select count(*) from raw_shop.articles where id = -2") == [(0,)]


def test_a_session_that_ends_is_told(warehouse: Settings, shop: Shop) -> None:
    copied(warehouse, shop)
    end = "select pg_terminate_backend(pid) from pg_stat_replication"
    with pytest.raises(Exception, match="source database"):
        follow(warehouse, shop, lambda: shop.sql(end), 1)
    copied(warehouse, shop)
    assert shop.differences(warehouse) == {}


POINTS = ("cdc-peeked:3", "cdc-applied:4", "cdc-before-advance:3", "cdc-after-advance:3")


@pytest.mark.long
def test_killed_everywhere_while_it_follows(warehouse: Settings, shop: Shop) -> None:
    copied(warehouse, shop)
    commits = shop.commits(seed=11, transactions=1_000_000)
    for point in POINTS:
        process = shop.capture(warehouse, "--follow", kill_at=point)
        while process.poll() is None:
            next(commits)
        out, err = process.communicate(timeout=60)
        assert process.returncode == -9, out + err
    commits.close()  # type: ignore[attr-defined]
    assert shop.capture(warehouse).wait(120) == 0
    assert shop.differences(warehouse) == {}


def test_a_capture_is_a_run_and_its_cycles_are_activities(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    copied(warehouse, shop)
    follow(warehouse, shop, lambda: shop.sql("insert into articles (id, name) values (-1, 'one')"), 1)
    runs = "select kind, name, status, row_count > 0, cause from ops.runs order by started_at"
    assert rows(runs) == [("capture", "shop", "succeeded", True, None)] * 2
    cycles = (
        "select count(distinct run_id), min(source), sum(row_count) > 0 from ops.activities where stage = 'capture'"
    )
    assert rows(cycles) == [(2, "shop", True)]
    assert rows("select source, kind, part, byte_count >= 0, seconds >= 0 from ops.lags") == [
        ("shop", "slot", shop.source.capture.slot, True, True)  # type: ignore[union-attr]
    ]
    newest = "select max(data_at) > now() - interval '1 hour' from ops.load_audit where table_name = 'articles_changes'"
    assert rows(newest) == [(True,)]
