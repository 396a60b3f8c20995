"""Slots: how copy and stream are joined, what is refused, how a lost slot is noticed and repaired, lag and alarms."""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg2.extras
import pytest
from typer import Typer
from typer.testing import CliRunner

from granary.cdc.capture import drop, opened
from granary.cdc.postgres import snapshot
from granary.cdc.postgres.lsn import lsn_number
from granary.cdc.status import status
from granary.cli.capture import register
from granary.load import api as load
from granary.load.api import load_table
from granary.load.captured import LostSlotError
from granary.sources import discovery
from granary.sources.spec import Capture
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.support.captured_shop import ARTICLES, PAGES, SETTING, Shop
from tests.python.support.origin_server import CAPTURER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[Any, ...]]]


def once(warehouse: Settings, source: Source, *, anew: bool = False) -> Any:
    with opened(warehouse, source) as capturing:
        return capturing.once(anew=anew)


# -- the copy and the stream ---------------------------------------------------------------------------------


def test_what_is_committed_between_slot_and_snapshot_counts_once(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three transactions around the snapshot: ended before it, open across it, and begun and ended after it."""
    settle, freeze = snapshot.settle, snapshot.freeze
    across = shop.origin.connect(shop.database, autocommit=False)

    def settled(origin: Any) -> None:
        settle(origin)
        execute(across, "insert into articles (id, name) values (-2, 'open across')")
        shop.sql("insert into articles (id, name) values (-1, 'between')")

    def frozen(*given: Any) -> Any:
        seen = freeze(*given)
        across.commit()
        shop.sql("insert into articles (id, name) values (-3, 'after')")
        return seen

    monkeypatch.setattr(snapshot, "settle", settled)
    monkeypatch.setattr(snapshot, "freeze", frozen)
    try:
        assert once(warehouse, shop.source).changes == 2
    finally:
        across.close()
    assert shop.differences(warehouse) == {}


def test_a_transaction_from_before_the_slot_is_waited_for(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has its id when the slot exists, and commits only then, is in the copy."""
    early = shop.origin.connect(shop.database, autocommit=False)
    waits = threading.Event()
    settle = snapshot.settle

    def settled(origin: Any) -> None:
        execute(early, "insert into articles (id, name) values (-1, 'early')")
        ended = threading.Timer(0.3, early.commit)
        ended.start()
        settle(origin)
        assert not ended.is_alive()
        waits.set()

    monkeypatch.setattr(snapshot, "settle", settled)
    try:
        once(warehouse, shop.source)
    finally:
        early.close()
    assert waits.is_set()
    assert shop.differences(warehouse) == {}


def test_a_transaction_that_does_not_end_stops_the_snapshot(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = snapshot.settle
    hanging = shop.origin.connect(shop.database, autocommit=False)

    def settled(origin: Any) -> None:
        execute(hanging, "insert into articles (id, name) values (-1, 'for ever')")
        settle(origin)

    monkeypatch.setattr(snapshot, "settle", settled)
    monkeypatch.setattr(snapshot, "PATIENCE_SECONDS", 0)
    try:
        with pytest.raises(GranaryError, match="have been open for over 0 s"):
            once(warehouse, shop.source)
    finally:
        hanging.close()
    monkeypatch.undo()
    monkeypatch.setenv(SETTING, shop.uri)
    once(warehouse, shop.source)
    assert shop.differences(warehouse) == {}


def test_a_prepared_transaction_counts_when_it_is_committed(warehouse: Settings, shop: Shop) -> None:
    once(warehouse, shop.source)
    name = f"both-{shop.database}"
    with shop.origin.connect(shop.database) as connection:
        for sql in ("begin", "insert into articles (id, name) values (-1, 'two')", f"prepare transaction '{name}'"):
            execute(connection, sql)
        assert once(warehouse, shop.source).changes == 0
        execute(connection, f"commit prepared '{name}'")
    assert once(warehouse, shop.source).changes == 1
    assert shop.differences(warehouse) == {}


# -- lost slots ----------------------------------------------------------------------------------------------


def repaired(warehouse: Settings, shop: Shop, said: str, rows: Rows, resets: int = 2) -> None:
    """See that the capture stops and says why, that status raises an alarm, and that a snapshot repairs it."""
    before = rows("select count(*), max(_load_id) from raw_shop.articles_changes")
    with pytest.raises(LostSlotError, match=said) as error:
        once(warehouse, shop.source)
    assert "granary capture shop --snapshot" in str(error.value)
    assert rows("select count(*), max(_load_id) from raw_shop.articles_changes") == before
    assert any(said in alarm for alarm in status(warehouse, shop.source).alarms)
    once(warehouse, shop.source, anew=True)
    assert shop.differences(warehouse) == {}
    assert status(warehouse, shop.source).alarms == ()
    assert rows("select count(*) from raw_shop.articles_changes where cdc_op = 'reset'") == [(resets,)]
    shop.sql("delete from articles where id % 2 = 0")
    once(warehouse, shop.source)
    assert shop.differences(warehouse) == {}


def test_a_slot_that_is_gone(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    once(warehouse, shop.source)
    slot = shop.source.capture.slot
    shop.sql(f"select pg_drop_replication_slot('{slot}')", "insert into articles (id, name) values (-1, 'unseen')")
    repaired(warehouse, shop, f"replication slot {slot} is gone", rows)


def test_rows_that_were_deleted_while_there_was_no_slot(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    shop.sql("insert into articles (id, name) values (-1, 'stays'), (-2, 'goes'), (-3, 'goes and comes back')")
    once(warehouse, shop.source)
    shop.sql(
        f"select pg_drop_replication_slot('{shop.source.capture.slot}')",
        "delete from articles where id in (-2, -3)",
        "insert into articles (id, name) values (-3, 'anew')",
    )
    repaired(warehouse, shop, "is gone", rows)
    assert rows("select id, name from raw_shop.articles where id < 0 order by id") == [(-3, "anew"), (-1, "stays")]
    told = "select cdc_op, name from raw_shop.articles_changes where id = {} order by _load_id, _row"
    assert rows(told.format(-2)) == [("snapshot", "goes"), ("delete", None)]
    assert rows(told.format(-3)) == [("snapshot", "goes and comes back"), ("snapshot", "anew")]


def test_a_slot_whose_log_was_thrown_away(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    once(warehouse, shop.source)
    shop.sql("alter system set max_slot_wal_keep_size = '1MB'", "select pg_reload_conf()")
    try:
        shop.sql("insert into articles (id, name) values (-1, 'unseen')")
        for _ in range(3):
            # A switch right after a switch does nothing: something has to be in the log between them.
            shop.sql("select pg_logical_emit_message(false, 'test', 'filler')", "select pg_switch_wal()")
        soon = status(warehouse, shop.source)
        assert soon.wal_status == "unreserved"
        assert "at its next checkpoint the source throws away what is still needed" in " ".join(soon.alarms)
        shop.sql("checkpoint")
        assert status(warehouse, shop.source).wal_status == "lost"
        repaired(warehouse, shop, "has thrown away changes", rows)
    finally:
        shop.sql("alter system reset max_slot_wal_keep_size", "select pg_reload_conf()")


def test_a_slot_that_somebody_else_moved(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    once(warehouse, shop.source)
    slot = shop.source.capture.slot
    shop.sql(
        "insert into articles (id, name) values (-1, 'unseen')",
        f"select pg_replication_slot_advance('{slot}', pg_current_wal_flush_lsn())",
    )
    repaired(warehouse, shop, "was moved by somebody else", rows)


@contextmanager
def reading(shop: Shop) -> Iterator[Any]:
    """Have another session read the slot, until the block ends or it is closed."""
    other = psycopg2.connect(shop.uri, connection_factory=psycopg2.extras.LogicalReplicationConnection)
    options = {"proto_version": "1", "publication_names": '"granary shop"'}
    other.cursor().start_replication(slot_name=shop.source.capture.slot, decode=False, options=options)
    with closing(other):
        yield other


def test_a_slot_that_another_session_reads_is_waited_for(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(warehouse, shop.source)
    shop.sql("insert into articles (id, name) values (-1, 'new')")
    waits = []
    with reading(shop) as other:

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            other.close()

        monkeypatch.setattr("granary.cdc.postgres.origin.time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
        assert once(warehouse, shop.source).changes == 1
    assert waits
    assert shop.differences(warehouse) == {}


def test_a_slot_that_another_session_keeps_is_told(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(warehouse, shop.source)
    monkeypatch.setattr("granary.cdc.postgres.origin.PATIENCE_SECONDS", 0)
    told = f'refuses: replication slot "{shop.source.capture.slot}" is active for PID'
    with reading(shop), pytest.raises(GranaryError, match=told):
        once(warehouse, shop.source)


def test_a_slot_of_another_database(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    once(warehouse, shop.source)
    slot = shop.source.capture.slot
    shop.sql(f"select pg_drop_replication_slot('{slot}')")
    shop.origin.run("postgres", [f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')"])
    with pytest.raises(LostSlotError, match="belongs to database postgres"):
        once(warehouse, shop.source)
    shop.origin.run("postgres", [f"select pg_drop_replication_slot('{slot}')"])
    repaired(warehouse, shop, "is gone", rows)


def test_a_source_that_was_restored(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    once(warehouse, shop.source)
    for resets, (key, value, said) in enumerate(
        [
            ("system", "1", "another server"),
            ("timeline", "0000000F", "another server"),
            ("lsn", "FF/0", "was restored"),
        ],
        start=2,
    ):
        with connect(warehouse, autocommit=True) as connection:
            state = json.loads(rows("select value from ops.watermarks where table_name = '@capture'")[0][0])
            changed = json.dumps(state | {key: value})
            execute(connection, "update ops.watermarks set value = $1 where table_name = '@capture'", changed)
        repaired(warehouse, shop, said, rows, resets)


def test_a_table_that_was_made_anew(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    once(warehouse, shop.source)
    shop.sql(
        "drop table pages",
        "create table pages (slug text primary key, body text, picture bytea, visits bigint)",
        "insert into pages values ('new', null, null, 1)",
        'alter publication "granary shop" add table pages',
        f"grant select on pages to {CAPTURER}",
    )
    with pytest.raises(LostSlotError, match="table pages was dropped and created again"):
        once(warehouse, shop.source)
    once(warehouse, shop.source, anew=True)
    assert shop.differences(warehouse) == {}


def test_a_slot_that_this_warehouse_did_not_make_is_not_touched(warehouse: Settings, shop: Shop) -> None:
    slot = shop.source.capture.slot
    shop.sql(f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    before = shop.rows("select confirmed_flush_lsn::text from pg_replication_slots")
    with pytest.raises(GranaryError, match="this warehouse did not create"):
        once(warehouse, shop.source)
    assert shop.rows("select confirmed_flush_lsn::text from pg_replication_slots") == before
    once(warehouse, shop.source, anew=True)
    assert shop.differences(warehouse) == {}


# -- what is refused before anything starts ------------------------------------------------------------------


KEY = "alter table pages add primary key (slug)"
UNCAPTURABLE = (
    ("alter table pages replica identity nothing", "alter table pages replica identity default", "replica identity"),
    ("alter table pages drop constraint pages_pkey", KEY, "replica identity"),
    (
        "alter table pages drop constraint pages_pkey; alter table pages replica identity full",
        f"{KEY}; alter table pages replica identity default",
        "no unique index of the source keeps slug",
    ),
    (
        "alter table pages drop constraint pages_pkey; alter table pages add primary key (slug) deferrable",
        f"alter table pages drop constraint pages_pkey; {KEY}",
        "replica identity",
    ),
    (
        'alter publication "granary shop" drop table pages',
        'alter publication "granary shop" add table pages',
        "does not have the table",
    ),
    (
        "alter publication \"granary shop\" set (publish = 'insert')",
        "alter publication \"granary shop\" set (publish = 'insert, update, delete, truncate')",
        "leaves out update, delete, truncate",
    ),
    (
        'alter publication "granary shop" set table pages (slug), articles, "Order Lines"',
        'alter publication "granary shop" set table pages, articles, "Order Lines"',
        "is not published",
    ),
    (
        f"revoke select on pages from {CAPTURER}",
        f"grant select on pages to {CAPTURER}",
        "may not read the table",
    ),
    ("alter table pages rename to books", "alter table books rename to pages", "no such table"),
    (
        "alter table pages drop visits; alter table pages add visits bigint generated always as (1) stored",
        "alter table pages drop visits; alter table pages add visits bigint",
        "is generated",
    ),
    ("create table heir () inherits (pages)", "drop table heir", "tables inherit from it"),
    ('drop publication "granary shop"', "select 1", "have the tables' owner run: create publication"),
)


def test_a_source_that_cannot_be_captured_is_refused_and_nothing_is_made(warehouse: Settings, shop: Shop) -> None:
    for spoil, fix, said in UNCAPTURABLE:
        shop.sql(*spoil.split("; "))
        with pytest.raises(GranaryError, match=said) as error:
            once(warehouse, shop.source)
        assert not isinstance(error.value, LostSlotError)
        assert shop.rows("select count(*) from pg_replication_slots where database = current_database()") == [(0,)]
        shop.sql(*fix.split("; "))


def test_a_role_without_the_right_to_replicate_is_told_so(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, shop.origin.tcp_uri(shop.database))
    shop.sql(f"alter role {CAPTURER} noreplication")
    try:
        with pytest.raises(GranaryError, match="may not replicate") as error:
            once(warehouse, shop.source)
    finally:
        shop.sql(f"alter role {CAPTURER} replication")
    assert shop.origin.password not in str(error.value)
    once(warehouse, shop.source)


def test_a_wrong_password_and_a_dead_source_are_told_without_the_password(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri in (
        shop.origin.tcp_uri(shop.database).replace(shop.origin.password, "hunter2"),
        f"postgresql://{CAPTURER}:hunter2@127.0.0.1:1/x",
    ):
        monkeypatch.setenv(SETTING, uri)
        with pytest.raises(GranaryError, match=f"check {SETTING}") as error:
            once(warehouse, shop.source)
        assert "hunter2" not in str(error.value)
        found = status(warehouse, shop.source)
        assert found.alarms
        assert "hunter2" not in str(found)


def test_a_publication_is_made_by_a_role_that_may(
    warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, shop.origin.uri(shop.database))
    shop.sql(
        'drop publication "granary shop"', "alter table pages add first text generated always as (left(slug, 1)) stored"
    )
    once(warehouse, shop.source)
    shop.sql("insert into pages values ('z', null, null, 1)")
    once(warehouse, shop.source)
    assert shop.differences(warehouse) == {}


def test_a_captured_table_of_another_warehouse_needs_a_slot_of_its_own_name() -> None:
    with pytest.raises(ValueError, match="slot name"):
        Capture(setting="X", slot="No Good", publication="p")
    with pytest.raises(ValueError, match="publication needs a name"):
        Capture(setting="X", slot="good", publication="")


# -- lag, alarms, the command --------------------------------------------------------------------------------


def test_the_slot_passes_what_others_write(warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granary.cdc.capturing.HEARTBEAT", timedelta(0))
    once(warehouse, shop.source)
    before = status(warehouse, shop.source)
    shop.sql("create table others (n int)", "insert into others select generate_series(1, 20000)")
    assert status(warehouse, shop.source).lag_bytes > 1_000_000
    assert once(warehouse, shop.source).changes == 0
    after = status(warehouse, shop.source)
    assert after.lag_bytes < 100_000
    assert lsn_number(after.confirmed_lsn) == lsn_number(after.lsn) > lsn_number(before.lsn) + 1_000_000


def test_alarms(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    tight = replace(shop.source, capture=replace(shop.source.capture, alarm_bytes=50_000_000))
    assert "nothing has been copied yet" in status(warehouse, tight).alarms[0]
    once(warehouse, tight)
    fine = status(warehouse, tight)
    assert (fine.alarms, fine.phase, fine.wal_status) == ((), "stream", "reserved")
    assert 0 <= fine.lag_seconds < 60
    shop.sql("update articles set name = name || '!'")
    late = replace(tight, capture=replace(tight.capture, alarm_bytes=1, alarm_age=timedelta(microseconds=1)))
    bytes_, age = status(warehouse, late).alarms
    assert "bytes wait in the source's log, over 1" in bytes_
    assert "s old, over 0" in age


def test_the_command(warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "SOURCES", {"shop": shop.source})
    app, run = Typer(), CliRunner()
    register(app)
    app.command("other")(lambda: None)

    def call(*words: str) -> tuple[int, Any]:
        done = run.invoke(app, ["capture", *words, "--json"])
        return done.exit_code, json.loads(done.stdout)

    assert call("--status")[0] == 1
    code, results = call("shop")
    assert (code, results[0]["changes"]) == (0, 0)
    assert results[0]["rows_copied"] > 0
    shop.sql("insert into articles (id, name) values (-1, 'new')")
    assert call()[1][0]["changes"] == 1
    code, found = call("--status")
    assert (code, found[0]["alarms"]) == (0, [])
    told = run.invoke(app, ["capture", "--status"]).stdout
    assert f"shop: slot {shop.source.capture.slot}, stream, stored up to {found[0]['lsn']}, wal_status reserved" in told
    assert "alarm over 1,073,741,824 bytes or 3,600 s" in told
    assert call("shop", "--snapshot")[1][0]["rows_copied"] == results[0]["rows_copied"] + 1
    code, done = call("shop", "--drop")
    assert code == 0
    assert done["done"][0] == f"Slot {shop.source.capture.slot} is dropped."
    assert "stays" in done["done"][1]  # the capturer does not own the publication
    assert shop.rows("select count(*) from pg_replication_slots where database = current_database()") == [(0,)]
    assert run.invoke(app, ["capture", "--snapshot"]).exit_code == 2
    assert run.invoke(app, ["capture", "shop", "--status", "--drop"]).exit_code == 2
    assert "there is no captured source 'other'" in str(run.invoke(app, ["capture", "other"]).exception)


@pytest.mark.parametrize("how", [{}, {"full_refresh": True}])
def test_a_load_leaves_captured_tables_alone(
    warehouse: Settings, shop: Shop, rows: Rows, monkeypatch: pytest.MonkeyPatch, how: dict[str, bool]
) -> None:
    once(warehouse, shop.source)
    monkeypatch.setattr(load, "SOURCES", {"shop": shop.source})
    shop.sql("update articles set name = name || '!'")
    counted = "select count(*) from raw_shop.articles"
    before = rows(counted)
    assert before != [(0,)]
    result = load_table(warehouse, "shop", "articles", **how)
    assert (result.status, result.rows_loaded, result.rows_deleted) == ("unchanged", 0, 0)
    assert rows(counted) == before
    once(warehouse, shop.source)
    assert shop.differences(warehouse) == {}


def test_two_captures_at_once_and_a_clean_end(warehouse: Settings, shop: Shop) -> None:
    with opened(warehouse, shop.source) as capturing:
        capturing.once()
        second = shop.capture(warehouse)
        _, err = second.communicate(timeout=60)
        assert second.returncode == 1
        assert "another capture of shop is running" in err
        shop.sql("insert into articles (id, name) values (-1, 'new')")
        assert capturing.once().changes == 1
    assert shop.capture(warehouse).wait(60) == 0
    assert shop.differences(warehouse) == {}


def test_following_until_ctrl_c(warehouse: Settings, shop: Shop, rows: Rows) -> None:
    once(warehouse, shop.source)
    process = shop.capture(warehouse, "--follow")
    for number in range(3):
        shop.sql(f"insert into articles (id, name) values ({-1 - number}, 'new')")
        eventually(lambda number=number: rows(f"select 1 from raw_shop.articles where id = {-1 - number}") == [(1,)])
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    once(warehouse, shop.source)
    assert shop.differences(warehouse) == {}


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    patience = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < patience
        time.sleep(0.02)


def test_a_table_that_is_added_is_copied_alone(
    warehouse: Settings, shop: Shop, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the copy of `pages`: changes before it, which it holds, and after it, which only the stream has."""
    once(warehouse, replace(shop.source, tables=(ARTICLES,)))
    ((last,),) = rows("select max(_load_id) from raw_shop.articles_changes")
    both = replace(shop, source=replace(shop.source, tables=(ARTICLES, PAGES)))
    said = status(warehouse, both.source).alarms
    assert "table pages has not been copied yet" in " ".join(said)
    shop.sql(
        "insert into articles (id, name) values (-1, 'waits')",
        "insert into pages (slug, visits) values ('seen', 1)",
    )
    freeze = snapshot.freeze

    def frozen(*given: Any) -> Any:
        seen = freeze(*given)
        shop.sql(
            "insert into pages (slug, visits) values ('after', 2)",
            "insert into articles (id, name) values (-2, 'beside')",
            "update pages set visits = 3 where slug = 'seen'",
        )
        return seen

    monkeypatch.setattr(snapshot, "freeze", frozen)
    result = once(warehouse, both.source)
    assert (result.rows_copied,) == shop.rows("select count(*) - 1 from pages")[0]
    assert result.changes == 4
    assert both.differences(warehouse) == {}
    added = "select cdc_op, visits from raw_shop.pages_changes where slug in ('seen', 'after') order by _load_id, _row"
    assert rows(added) == [("snapshot", 1), ("insert", 2), ("update", 3)]
    assert rows(f"select cdc_op, id from raw_shop.articles_changes where _load_id > {last} order by id") == [
        ("insert", -2),
        ("insert", -1),
    ]
    assert status(warehouse, both.source).alarms == ()
    shop.sql("delete from pages where slug = 'seen'")
    assert once(warehouse, both.source).changes == 1
    assert both.differences(warehouse) == {}


def test_drop_by_the_owner_removes_both(warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, shop.origin.uri(shop.database))
    once(warehouse, shop.source)
    assert drop(warehouse, shop.source) == [
        f"Slot {shop.source.capture.slot} is dropped.",
        "Publication granary shop is dropped.",
    ]
    assert shop.rows("select count(*) from pg_publication") == [(0,)]
    once(warehouse, shop.source)
    assert shop.differences(warehouse) == {}


@pytest.mark.parametrize("harm", ["truncate raw_shop.articles", "drop table raw_shop.articles_changes cascade"])
def test_raw_rows_that_somebody_took_away(warehouse: Settings, shop: Shop, rows: Rows, harm: str) -> None:
    shop.sql("insert into articles (id, name) select n, 'x' from generate_series(1, 5) as n on conflict do nothing")
    once(warehouse, shop.source)
    with connect(warehouse, autocommit=True) as connection:
        execute(connection, harm)
    with pytest.raises(LostSlotError, match=r"its loads had brought \d+"):
        once(warehouse, shop.source)
    assert any("its loads had brought" in alarm for alarm in status(warehouse, shop.source).alarms)
    once(warehouse, shop.source, anew=True)
    assert shop.differences(warehouse) == {}
    once(warehouse, shop.source)
