"""A capture by the binary log of a MariaDB: copy and log without gap or overlap, and what stops it."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from granary.cdc.capture import drop, opened
from granary.cdc.status import status
from granary.load.captured import LostSlotError
from granary.quarantine.replay import entries, replay
from granary.warehouse.errors import GranaryError
from tests.python.support import mariadb
from tests.python.support.binlog_shop import ARTICLES, SETTING, BinlogShop

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.cdc.capturing import CaptureResult
    from granary.warehouse.settings import Settings

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


def test_columns_come_and_go_in_mid_log(take: Callable[..., int], stall: BinlogShop, rows: Rows) -> None:
    take(
        "insert into articles (id, name, weight) values (1, 'a', 1)",
        "alter table articles add size int unsigned, add made datetime(3) null default null, add index (name(10))",
        "insert into articles (id, name, size, made) values (2, 'b', 4294967295, '2024-01-01 00:00:00.5')",
        "alter table articles drop column weight",
        "insert into articles (id, name) values (3, 'c')",
        "update articles set size = 8 where id = 1",
    )
    assert rows("select id, weight, size, made from raw_stall.articles order by id") == [
        (1, None, 8, None),
        (2, None, 4294967295, "2024-01-01 00:00:00.500"),
        (3, None, None, None),
    ]
    assert rows("select weight, size from raw_stall.articles_changes where id = 1 order by _row") == [
        (1, None),
        (None, 8),
    ]
    changes = rows("select column_name, change, detail from ops.schema_changes where table_name = 'articles'")
    assert ("weight", "missing", "double; null from here on") in changes
    assert {column for column, change, _ in changes if change == "added"} == {"size", "made"}


def test_what_alters_rows_without_a_change_stops_the_capture_until_the_next_copy(
    take: Callable[..., int], warehouse: Settings, stall: BinlogShop, rows: Rows
) -> None:
    take("insert into articles (id, name) values (1, 'a'), (2, 'b')")
    with pytest.raises(LostSlotError, match=r"table articles was altered .* `add color int`.*--snapshot"):
        take(
            "delete from articles where id = 2",
            "alter table articles add color int default 5",
            "insert into articles (id, name) values (3, 'c')",
        )
    assert rows("select id from raw_stall.articles order by id") == [(1,), (2,)]
    with opened(warehouse, stall.source) as capturing:
        assert capturing.once(anew=True).rows_copied == 2
    assert rows("select id, color from raw_stall.articles order by id") == [(1, 5), (3, 5)]
    gone = "select cdc_op, id from raw_stall.articles_changes where _load_id >= {} order by _load_id, _row"
    ((last,),) = rows("select max(_load_id) from raw_stall.articles_changes where cdc_op = 'delete'")
    assert rows(gone.format(last)) == [("delete", 2), ("reset", None), ("snapshot", 1), ("snapshot", 3)]
    assert take("update articles set color = 6 where id = 3") == 1
    assert stall.differences(warehouse) == {}


def test_a_log_that_was_purged_is_noticed_and_repaired(
    take: Callable[..., int], warehouse: Settings, stall: BinlogShop, rows: Rows
) -> None:
    take("insert into articles (id, name) values (1, 'a'), (2, 'b')")
    stall.sql(
        "delete from articles where id = 1", "flush binary logs", "insert into articles (id, name) values (3, 'c')"
    )
    file = stall.rows("show master status")[0][0]
    stall.sql("flush binary logs")
    while stall.rows("show binary logs")[0][0] < file:  # a file goes once the server no longer needs it itself
        stall.sql(f"purge binary logs to '{file}'")
    with pytest.raises(LostSlotError, match="the source has thrown away log files that were needed: they begin after"):
        take()
    found = status(warehouse, stall.source)
    assert (found.wal_status, found.phase, len(found.alarms)) == ("purged", "stream", 1)
    with opened(warehouse, stall.source) as capturing:
        capturing.once(anew=True)
    assert rows("select cdc_op from raw_stall.articles_changes where id = 1 order by _load_id, _row") == [
        ("insert",),
        ("delete",),
    ]
    assert (status(warehouse, stall.source).alarms, stall.differences(warehouse)) == ((), {})


def test_another_server_takes_over(warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    program = mariadb.binary()
    if program is None:
        pytest.skip(f"there is no MariaDB server here: install the Debian package {mariadb.PACKAGE}")
    with ExitStack() as stack:
        servers = []
        for number in (1, 2):
            options = (f"--server-id={number}", "--log-slave-updates", f"--log-basename=server{number}")
            servers.append(mariadb.start(program, *mariadb.BINLOG, *options))
            stack.callback(servers[-1].stop)
        first, second = (BinlogShop(server, "stall") for server in servers)
        servers[1].follow(servers[0])
        first.create(rows=5)

        def capture(shop: BinlogShop) -> int:
            monkeypatch.setenv(SETTING, shop.uri)
            with opened(warehouse, shop.source) as capturing:
                return capturing.once().changes

        capture(first)
        first.sql("insert into articles (id, name) values (-2, 'b')")
        assert capture(first) == 1
        first.sql("update articles set name = 'B' where id = -2")
        servers[1].catch_up(servers[0])
        servers[1].run("stop slave")
        first.sql("insert into articles (id, name) values (-3, 'lost with the first server')")
        second.sql("delete from articles where id = -2")
        assert capture(second) == 2
        assert second.differences(warehouse) == {}
        found = rows("select cdc_op, cdc_lsn from raw_stall.articles_changes where id = -2 order by _load_id, _row")
        assert [op for op, _ in found] == ["insert", "update", "delete"]
        assert found == sorted(found, key=lambda row: row[1])
        # The first server has not received what the second one has committed since.
        with pytest.raises(LostSlotError, match=r"lacks what is stored|does not go on from what is stored"):
            capture(first)


def test_a_capture_that_follows_is_sent_changes(
    take: Callable[..., int], warehouse: Settings, stall: BinlogShop
) -> None:
    def ended(result: CaptureResult) -> None:
        if result.changes >= 3:
            raise KeyboardInterrupt

    with opened(warehouse, stall.source) as capturing:
        capturing.once()
        enter = capturing._enter

        def begun(state: Any, *, follow: bool) -> None:
            enter(state, follow=follow)
            if follow:
                stall.sql(
                    "insert into articles (id, name) values (1, 'one')",
                    "update articles set name = 'two' where id = 1",
                    "insert into pages (slug) values ('p')",
                )

        capturing._enter = begun  # type: ignore[method-assign]
        with suppress(KeyboardInterrupt):
            capturing.follow(progress=ended)
    assert stall.differences(warehouse) == {}


def test_a_transaction_that_comes_in_parts_lands_whole(
    take: Callable[..., int], warehouse: Settings, stall: BinlogShop, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("granary.cdc.mysql.log.PART_BYTES", 10_000)
    monkeypatch.setattr("granary.cdc.mysql.log.READ_BYTES", 20_000)
    many = "insert into articles (id, name) select seq, repeat('x', 100) from seq_1_to_3000"
    assert (
        take("begin", many, "insert into pages (slug) values ('p')", "delete from articles where id = 7", "commit")
        == 3002
    )
    assert rows("select cdc_seq, cdc_op from raw_stall.articles_changes where id = 7 order by _row") == [
        (7, "insert"),
        (3002, "delete"),
    ]
    counted = "select count(*), count(distinct cdc_lsn), max(cdc_seq) from raw_stall.articles_changes where id < 3001"
    assert rows(counted) == [(3001, 1, 3002)]
    assert stall.differences(warehouse) == {}


def test_a_table_more_is_copied_by_itself(warehouse: Settings, stall: BinlogShop) -> None:
    with opened(warehouse, stall.captures(*stall.source.tables[:2])) as capturing:
        capturing.once()
    # Changes of the added table before its copy are in the log that has yet to be read, and in the copy.
    stall.sql(
        "insert into pages (slug) values ('new')", "alter table pages modify visits int", "update pages set visits = 3"
    )
    stall.sql("insert into articles (id, name) values (-1, 'new')")
    with opened(warehouse, stall.source) as capturing:
        done = capturing.once()
    assert (done.rows_copied, done.changes) == (len(stall.rows("select slug from pages")), 1)
    stall.sql("update pages set visits = 4 where slug = 'new'")
    with opened(warehouse, stall.source) as capturing:
        assert capturing.once().changes == 1
    assert stall.differences(warehouse) == {}


def test_a_row_that_breaks_the_contract_is_kept_aside_and_replayed(
    take: Callable[..., int], warehouse: Settings, stall: BinlogShop, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("granary.quarantine.replay.SOURCES", {"stall": stall.source})
    take("insert into articles (id, name, price, since) values (1, 'a', -1, null), (2, 'b', 1, '0000-00-00')")
    refused = rows("select column_name, reason, payload ->> 'id' from ops.quarantine order by 3")
    assert refused == [("price", "is below 0", "1"), ("since", "is not a valid date32[day]", "2")]
    (result,) = replay(warehouse, entries(warehouse), {"price": "4", "since": "2024-01-01"})
    assert (len(result.landed), result.refused) == (2, ())
    assert rows("select id, price::text, since::text from raw_stall.articles order by id") == [
        (1, "4.00", "2024-01-01"),
        (2, "4.00", "2024-01-01"),
    ]


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (("set binlog_format = statement", "update articles set price = 1"), "`update articles`"),
        (("set binlog_row_image = minimal", "update articles set price = 1"), "leaves columns out"),
        (("xa start 'x'", "delete from articles", "xa end 'x'", "xa prepare 'x'", "xa commit 'x'"), "XA"),
    ],
)
def test_what_a_session_writes_otherwise_stops_the_capture(
    take: Callable[..., int], statements: tuple[str, ...], said: str
) -> None:
    take("insert into articles (id, name) values (1, 'a')")
    with pytest.raises(LostSlotError, match=said):
        take(*statements)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("binlog_format", "MIXED", "binlog_format = MIXED.*set global binlog_format = 'ROW'"),
        ("binlog_row_image", "MINIMAL", "binlog_row_image = MINIMAL"),
        ("binlog_row_metadata", "MINIMAL", "binlog_row_metadata = MINIMAL"),
        ("log_bin_compress", "ON", "log_bin_compress = ON"),
    ],
)
def test_a_server_that_logs_otherwise_is_refused(
    warehouse: Settings, stall: BinlogShop, name: str, value: str, said: str
) -> None:
    ((before,),) = stall.rows(f"select @@global.{name}")
    stall.sql(f"set global {name} = {value}")
    try:
        with pytest.raises(GranaryError, match=said), opened(warehouse, stall.source):
            pass
    finally:
        stall.sql(f"set global {name} = '{before}'" if isinstance(before, str) else f"set global {name} = {before}")


@pytest.mark.parametrize(
    ("create", "said"),
    [
        ("create table odd (id int primary key) engine = MyISAM", "it is a table of engine MyISAM"),
        ("create view odd as select 1 as id", "it is a view"),
        ("create table odd (id int not null)", "no unique index of the source keeps id from being there twice"),
        ("create table odd (id int primary key, u uuid)", "column u is of type uuid, which is not captured"),
        (
            "create table odd (id int primary key, a bigint,"
            " foreign key (a) references articles (id) on delete cascade)",
            "foreign key odd_ibfk_1 changes its rows without a word in the log",
        ),
        ("create table odd (number int primary key)", "the source has no column id, which is the key"),
        ("select 1", "the source has no such table"),
    ],
)
def test_a_table_that_cannot_be_captured_is_refused(
    warehouse: Settings, stall: BinlogShop, create: str, said: str
) -> None:
    stall.sql(create)
    table = replace(ARTICLES, name="odd", location="odd", columns=ARTICLES.columns[:1])
    with opened(warehouse, stall.captures(table)) as capturing, pytest.raises(GranaryError, match=said):
        capturing.once()


def test_who_may_not_read_the_log_is_refused(
    warehouse: Settings, stall: BinlogShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = stall.server.reader
    monkeypatch.setenv(SETTING, stall.uri.replace("capturer:", "reader:").replace(stall.database, "shop"))
    with (
        opened(warehouse, stall.source) as capturing,
        pytest.raises(GranaryError, match="replication client") as refused,
    ):
        capturing.once()
    monkeypatch.setenv(SETTING, stall.uri.replace("capturer:", "capturer:no"))
    with pytest.raises(GranaryError, match="cannot connect to the source database: Access denied") as denied:
        opened(warehouse, stall.source).__enter__()
    assert secret not in f"{refused.value} {denied.value}"
    monkeypatch.setenv(SETTING, "postgresql://a:b@c/d")
    with pytest.raises(GranaryError, match=r"is not one of MySQL or MariaDB.*mysql://user:password@host/name"):
        opened(warehouse, stall.source).__enter__()


def test_status_and_drop(take: Callable[..., int], warehouse: Settings, stall: BinlogShop, rows: Rows) -> None:
    take("insert into articles (id, name) values (1, 'a')")
    stall.sql("insert into articles (id, name) select seq, 'x' from seq_2_to_1000")
    found = status(warehouse, stall.source)
    assert (found.slot, found.wal_status, found.alarms) == ("server_id 4711", "kept", ())
    assert found.lag_bytes is not None
    assert found.lag_bytes > 999 * 10
    take()
    assert status(warehouse, stall.source).lag_bytes == 0
    ((last,),) = rows("select max(cdc_lsn) from raw_stall.articles_changes")
    assert drop(warehouse, stall.source) == [
        "The source keeps nothing for a capture, so there is nothing to remove there."
    ]
    assert status(warehouse, stall.source).phase == "never captured"
    take()
    assert rows("select min(cdc_lsn) from raw_stall.articles_changes where cdc_op = 'reset' and cdc_lsn > 0") == [
        (last,)
    ]
