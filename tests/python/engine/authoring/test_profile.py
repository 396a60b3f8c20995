"""Profiles of tables whose content a person worked out, and what moves between two of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from granary.cli.profile_tables import print_profile
from granary.pages.profiles.page import page
from granary.pages.profiles.run import compare_loads, take
from granary.pages.profiles.shapes import bar, histogram, spark
from granary.profiling import measure
from granary.profiling.drift import drift, ks, psi
from granary.profiling.measure import profile_arrow, profile_relation, projected
from granary.profiling.profile import ColumnProfile, Profile
from granary.profiling.store import latest_two
from granary.readers.files import FileReader
from granary.sources import discovery
from granary.sources.spec import Column, Source, Table
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

TABLE = """
    create table raw_bikes.rentals as
    select
        n::bigint as rental_id,
        n / 4 as "order",
        n % 4 as line,
        case when n % 10 = 0 then null else (n % 5) end::smallint as docks,
        round(n * 0.01, 2)::numeric(12, 2) as price,
        date '2024-01-01' + n / 10 as day,
        timestamptz '2024-01-01 00:00:00Z' + n * interval '1 minute' as started_at,
        case n % 3 when 0 then 'a' else '<b>"' end as kind,
        case when n % 2 = 0 then 'NaN' else 'Infinity' end::double precision as odd,
        'm' || n || '@example.org' as email,
        jsonb_build_object('x', n % 2) as extra,
        n > 500 as late,
        7::bigint as _load_id,
        n::integer as _row
    from generate_series(0, 999) as n
"""


RENTALS = Table(
    "rentals",
    "A rental.",
    "rentals",
    tuple(
        Column(name, pa.string(), "A column.")
        for name in (
            "rental_id",
            "order",
            "line",
            "docks",
            "price",
            "day",
            "started_at",
            "kind",
            "odd",
            "email",
            "late",
        )
    ),
    disposition="replace_unit",
    freshness=timedelta(days=1),
)
"""Its contract; of `extra` nobody has said whether it is personal."""


@pytest.fixture
def sql(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs statements on the test's warehouse, after the table of rentals was made."""
    bikes = Source("bikes", "Bikes.", "bikes", "files", (), lambda _: FileReader("/nowhere"), (RENTALS,))
    monkeypatch.setattr(discovery, "SOURCES", {"bikes": bikes})

    def run(*statements: str) -> None:
        with connect(warehouse, autocommit=True) as connection:
            for statement in statements:
                execute(connection, statement)

    run("create schema raw_bikes", TABLE, "grant usage on schema raw_bikes to transformer")
    run("grant select on all tables in schema raw_bikes to transformer")
    return run


def test_a_profile_has_the_worked_out_numbers(warehouse: Settings, sql: Callable[..., None]) -> None:
    found = profile_relation(warehouse, "raw_bikes.rentals", {"line"})
    assert (found.rows, found.sampled, found.load_id, found.exact) == (1000, 1000, 7, True)
    columns = {column.name: column for column in found.columns}
    assert list(columns) == [
        "rental_id", "order", "line", "docks", "price", "day", "started_at", "kind", "odd", "email", "extra", "late",
    ]  # fmt: skip
    assert {name: (column.nulls, column.distinct) for name, column in columns.items()} == {
        "rental_id": (0, 1000),
        "order": (0, 250),
        "line": (0, 4),
        "docks": (100, 5),
        "price": (0, 1000),
        "day": (0, 100),
        "started_at": (0, 1000),
        "kind": (0, 2),
        "odd": (0, 2),
        "email": (0, 1000),
        "extra": (0, 2),
        "late": (0, 2),
    }
    # percentile_disc of 0 to 999: the value of rank ceil(p * 1000), the least one for p = 0.
    assert columns["rental_id"].percentiles == tuple(float(max(0, 10 * p - 1)) for p in range(101))
    assert (columns["price"].minimum, columns["price"].maximum) == ("0.00", "9.99")
    assert (columns["day"].minimum, columns["day"].maximum) == ("2024-01-01", "2024-04-09")
    assert columns["day"].shown(columns["day"].percentile(50)) == "2024-02-19"
    assert columns["started_at"].shown(columns["started_at"].percentile(100)) == "2024-01-01 16:39"
    assert columns["odd"].percentiles == ()
    # 900 values of 0 to 4: 0 lost every other of its 200 to null.
    assert columns["docks"].top == (
        ("1", 200 / 900),
        ("2", 200 / 900),
        ("3", 200 / 900),
        ("4", 200 / 900),
        ("0", 100 / 900),
    )
    assert columns["kind"].top == (('<b>"', 0.666), ("a", 0.334))
    for name in ("line", "email"):
        assert columns[name].personal
        assert (columns[name].top, columns[name].percentiles, columns[name].minimum) == ((), (), None)
    assert found.keys == (("rental_id",), ("email",), ("started_at",)) or found.keys[0] == ("rental_id",)


def test_a_pair_is_proposed_as_a_key(warehouse: Settings, sql: Callable[..., None]) -> None:
    sql('create table raw_bikes.lines as select "order" as order_id, line as line_no, docks from raw_bikes.rentals')
    sql("grant select on raw_bikes.lines to transformer")
    assert profile_relation(warehouse, "raw_bikes.lines").keys == (("order_id", "line_no"),)


def test_a_large_table_is_sampled_and_says_so(
    warehouse: Settings, sql: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sql("create table raw_bikes.many as select n, n % 7 as seven, null::text as none from generate_series(1, 60000) n")
    sql("create view raw_bikes.seen as select * from raw_bikes.many")
    sql("grant select on all tables in schema raw_bikes to transformer")
    monkeypatch.setattr(measure, "SAMPLE_ROWS", 20_000)
    for relation in ("raw_bikes.many", "raw_bikes.seen"):
        found = profile_relation(warehouse, relation, exact_rows=50_000)
        assert (found.rows, found.exact) == (60_000, False)
        # Binomial with p = 1/3: 20,000, give or take 115; five times that is never seen.
        assert abs(found.sampled - 20_000) < 600
        n, seven, none = found.columns
        assert (n.minimum, n.maximum, n.nulls, none.nulls) == ("1", "60000", 0, 60_000)
        assert n.distinct == 60_000
        assert (seven.distinct, none.distinct) == (7, 0)
        assert abs(n.percentiles[50] - 30_000) < 1500
        assert all(abs(share - 1 / 7) < 0.02 for _, share in seven.top)
    again = profile_relation(warehouse, "raw_bikes.many", exact_rows=50_000)
    assert again.sampled == profile_relation(warehouse, "raw_bikes.many", exact_rows=50_000).sampled


def test_a_table_of_six_hundred_columns(warehouse: Settings, sql: Callable[..., None]) -> None:
    values = ", ".join(f"n + {number} as c{number}" for number in range(600))
    sql(f"create table raw_bikes.wide as select {values} from generate_series(1, 3) as n")
    sql("grant select on raw_bikes.wide to transformer")
    found = profile_relation(warehouse, "raw_bikes.wide")
    assert len(found.columns) == 600
    assert all(column.percentiles[0] == number + 1 for number, column in enumerate(found.columns))


def test_an_empty_table_and_one_that_is_not_there(warehouse: Settings, sql: Callable[..., None]) -> None:
    sql("create table raw_bikes.empty (a bigint, b text)", "grant select on raw_bikes.empty to transformer")
    found = profile_relation(warehouse, "raw_bikes.empty")
    assert [(column.distinct, column.percentiles, column.top) for column in found.columns] == [(0, (), ()), (0, (), ())]
    for name in ("raw_bikes.nothing", "rentals", 'raw_bikes.x"; drop table raw_bikes.rentals; --'):
        with pytest.raises(GranaryError):
            profile_relation(warehouse, name)


def test_duj1_projects_as_the_paper_says() -> None:
    assert projected(0, 0, 100, 1000) == 0
    assert projected(50, 0, 100, 1000) == 50  # every value came again: there are no others
    assert projected(100, 100, 100, 1000) == 1000  # every value came once: a key
    # n = 100, d = 60, f1 = 40, N = 1000: 100 * 60 / (100 - 40 + 40 * 0.1) = 93.75
    assert projected(60, 40, 100, 1000) == 94


def test_what_moved_is_found_and_what_did_not_is_not(warehouse: Settings, sql: Callable[..., None]) -> None:
    first, before, moves = take(warehouse, "raw_bikes.rentals")
    assert (before, moves) == (None, [])
    _, before, moves = take(warehouse, "raw_bikes.rentals")
    assert before == first
    assert moves == []
    sql(
        "delete from raw_bikes.rentals where rental_id < 500",
        "update raw_bikes.rentals set kind = 'c' where kind = 'a'",
        "update raw_bikes.rentals set docks = null where docks = 4",
        "alter table raw_bikes.rentals drop column extra, add column note text",
    )
    moved = {(move.column, move.what): move for move in take(warehouse, "raw_bikes.rentals")[2]}
    assert (moved["", "rows"].before, moved["", "rows"].now, moved["", "rows"].level) == ("1,000", "500", "much")
    assert (moved["extra", "column"].now, moved["note", "column"].before) == ("gone", "not there")
    assert (moved["docks", "nulls"].before, moved["docks", "nulls"].now) == ("10.0%", "30.0%")
    assert (moved["kind", "values"].before, moved["kind", "values"].now) == ("had a", "has c")
    # The upper half of what was uniform: half of the rows are missing below each value in the middle.
    assert moved["price", "shape"].ks == pytest.approx(0.5, abs=0.011)
    assert moved["price", "shape"].level == "much"
    assert ("rental_id", "distinct") not in moved  # as many as there are rows, as before
    assert ("email", "values") not in moved


def test_the_newest_load_is_compared_with_the_rows_before(warehouse: Settings, sql: Callable[..., None]) -> None:
    with pytest.raises(GranaryError, match="no rows of two loads"):
        compare_loads(warehouse, "raw_bikes.rentals")
    sql("update raw_bikes.rentals set _load_id = 8, kind = 'new', docks = docks + 10 where rental_id >= 900")
    newest, before, moves = compare_loads(warehouse, "raw_bikes.rentals")
    assert (newest.rows, before.rows, newest.load_id) == (100, 900, 8)
    moved = {(move.column, move.what): move for move in moves}
    assert moved["docks", "shape"].ks == 1.0
    assert moved["kind", "values"].now == "has new"
    assert not {("", "rows"), ("kind", "nulls")} & set(moved)


def test_psi_and_ks_by_hand() -> None:
    # (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5) = 0.1 * 0.18232 + 0.1 * 0.22314 = 0.040547
    assert psi([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.0405465, abs=1e-6)
    assert psi([0.5, 0.5], [0.5, 0.5]) == 0
    assert math.isfinite(psi([1.0, 0.0], [0.0, 1.0]))
    uniform = [float(p) for p in range(101)]
    assert ks(uniform, uniform) == 0
    assert ks(uniform, [p + 25 for p in uniform]) == pytest.approx(0.25, abs=0.011)
    assert ks(uniform, [p + 1000 for p in uniform]) == 1.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=101, max_size=101).map(sorted))
def test_a_distribution_has_not_moved_from_itself(percentiles: list[float]) -> None:
    column = ColumnProfile("a", "integer", "number", 0, 50, percentiles=tuple(percentiles))
    one = Profile("t", 100, 100, (column,))
    assert drift(one, one) == []
    assert sum(histogram(percentiles, 12)) == pytest.approx(1)
    assert len(spark(column)) <= 12


def test_bars_show_that_little_is_not_nothing() -> None:
    assert (bar(0), bar(0.0001), bar(1, 4), bar(0.5, 4)) == ("", "▏", "████", "██")


def test_a_profile_survives_json() -> None:
    column = ColumnProfile("a", "date", "time", 1, 2, "x", "y", (1.0,) * 101, (("v", 0.5),))
    one = Profile("t", 3, 3, (column,), (("a", "b"),), 7, datetime(2024, 1, 1, tzinfo=timezone.utc))
    assert Profile.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_file_is_profiled_without_its_personal_values(warehouse: Settings) -> None:
    data = pa.table({"Name": ["Ada", "Ben"], "E-Mail": ["a@x", "b@x"], "Points": [1, 2]})
    found = profile_arrow(warehouse, data, "members.csv")
    assert found.relation == "file members.csv"
    assert [column.personal for column in found.columns] == [True, True, False]
    assert "Ada" not in json.dumps(found.to_json())


class Reader(HTMLParser):
    """Collects what a page would load, run or show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_no_address_and_runs_nothing(warehouse: Settings, sql: Callable[..., None]) -> None:
    for _ in range(2):
        take(warehouse, "raw_bikes.rentals")
        sql("update raw_bikes.rentals set kind = '<script>alert(1)</script>' where kind = 'a'")
    pairs = [(now, drift(before, now) if before else None) for now, before in latest_two(warehouse)]
    evil = replace(pairs[0][0], relation="</style><script>x</script>")
    text = page([*pairs, (evil, None)])
    reader = Reader()
    reader.feed(text)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img", "iframe"}
    assert "<script>alert(1)</script>" in reader.text
    for _, attributes in reader.tags:
        for name in ("src", "href", "srcset", "action"):
            address = attributes.get(name) or ""
            assert address.startswith("#") or address in ("", "static_index.html", "marts.html", "lineage.html")
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in text
    assert "prefers-color-scheme:dark" in text
    assert "@example.org" not in text


def test_the_terminal_shows_hostile_values_as_text(
    warehouse: Settings, sql: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    sql("update raw_bikes.rentals set kind = E'[bold]\\x1b[31m' where kind = 'a'")
    found, _, moves = take(warehouse, "raw_bikes.rentals")
    print_profile(found, moves, None)
    before = replace(found, columns=tuple(replace(column, top=(("x", 1.0),)) for column in found.columns))
    print_profile(found, drift(before, found), before)
    printed: Any = capsys.readouterr().out
    assert "\x1b[31m" not in printed
    assert "has <b>" in printed
    assert "[bold]" in printed
