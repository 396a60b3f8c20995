"""Guesses are reported: keys, words for no value, dialects, ranges, and tables that belong together."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import yaml
from pyarrow import orc

from granary.profiling.evidence import candidate_keys, evidence
from granary.profiling.names import is_code, looks_like_key, personal, snake
from granary.scaffold import dbt
from granary.scaffold import files as scaffold_files
from granary.scaffold.foreign_keys import refers
from granary.scaffold.inspection import inspect_source
from granary.scaffold.plan import Found, Opening, PlannedSource, plan
from granary.scaffold.source import Group
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

OPENING = Opening(
    ("from granary.readers.files import FileReader",), Group("FileReader", ('settings["GRANARY_X_LANDING"]',)), {}
)


def planned(sample: pa.Table, **more: Any) -> PlannedSource:
    """Return the plan of a source with one table of orders."""
    return plan("shop", "csv", OPENING, [Found("orders", "o.csv", sample, timedelta(1), "all", whole=True, **more)])


def proposed(source: PlannedSource, table: int) -> dict[str, list[dict[str, Any]]]:
    """Return the tests of each staging column."""
    (model,) = yaml.safe_load(dbt.staging_yaml(source, source.tables[table]))["models"]
    return {column["name"]: column.get("data_tests", []) for column in model["columns"]}


def keys(columns: dict[str, Any], entity: str = "") -> list[tuple[str, ...]]:
    table = pa.table(columns)
    return list(candidate_keys(table, [evidence(name, table[name]) for name in table.column_names], entity))


def folder(place: Path, **contents: str) -> str:
    for name, content in contents.items():
        (place / f"{name}.csv").write_text(content)
    return str(place)


def test_a_given_key_with_duplicates_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path, lines="order,line,sum\n1,1,5\n1,2,5\n2,1,7\n", other="order,x\n1,a\n2,b\n")
    with pytest.raises(GranaryError, match=r"order does not identify a row: it comes again in 1 of 3 rows \(lines\)"):
        inspect_source("shop", place, keys={"lines": ("order",)})
    with pytest.raises(GranaryError, match="does not identify a row"):
        inspect_source("shop", place, keys={"": ("order",)})
    good = inspect_source("shop", place, keys={"lines": ("order", "line")})
    assert [table.key for table in good.tables] == [("line_order", "line"), ("other_order",)]


def test_a_given_key_that_is_empty_somewhere_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path, orders="order_id,sum\n1,5\n,6\n")
    with pytest.raises(GranaryError, match="order_id is empty in 1 of 2 rows"):
        inspect_source("shop", place, keys={"": ("order_id",)})


def test_what_people_write_is_no_key() -> None:
    comments = [f"carefully final deposits number {n}" for n in range(30)]
    assert keys({"comment": [f"c{n}" for n in range(30)], "nation": ["a", "b", "c"] * 10}) == []
    assert keys({"said": comments, "nation": ["a", "b", "c"] * 10}) == []
    assert keys({"said": [f"{n}" * 70 for n in range(30)]}) == []


def test_a_key_may_need_three_or_four_columns() -> None:
    rows = [(a, b, c, d) for a in "xy" for b in "pq" for c in (1, 2, 3) for d in (1, 2)]
    four = dict(zip("abcd", map(list, zip(*rows, strict=True)), strict=True))
    assert keys(four) == [("a", "b", "c", "d")]
    three = {name: four[name][::2] for name in "abc"} | {"note": ["same"] * 12}
    assert keys(three) == [("a", "b", "c")]


def test_keys_of_other_houses_are_known_by_their_names() -> None:
    assert all(map(looks_like_key, ("l_orderkey", "custkey", "userid", "orderID", "order_no")))
    assert not any(map(looks_like_key, ("paid", "is_valid", "monkey", "grid", "note")))
    assert all(map(is_code, ("phone", "Zip Code", "postcode", "home_phone", "EAN", "isbn")))
    assert not any(map(is_code, ("zip_count", "phones_sold", "price")))
    assert snake("Customer's Name") == "customers_name"
    assert personal("Customer's Name") == "identifier"


def test_what_rises_from_row_to_row_has_no_range() -> None:
    number = range(40)
    source = planned(
        pa.table(
            {
                "mark": [str(1000 + n // 2) for n in number],
                "back": [str(1000 - n) for n in number],
                "amount": [str(n * 7 % 40) for n in number],
            }
        )
    )
    kinds = {name: [next(iter(test)) for test in found] for name, found in proposed(source, 0).items()}
    assert kinds["mark"] == ["not_null"]
    assert "dbt_utils.accepted_range" not in kinds["back"]
    assert "dbt_utils.accepted_range" in kinds["amount"]


@pytest.mark.parametrize(("limit", "complete"), [(10, True), (9, False)])
def test_as_many_rows_as_are_looked_at_may_be_all(
    limit: int, complete: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaffold_files, "ROWS", limit)
    place = folder(tmp_path, orders="id\n" + "".join(f"{n}\n" for n in range(10)))
    (table,) = inspect_source("shop", place).tables
    assert (table.complete, table.rows) == (complete, limit)


def test_tables_that_belong_together_are_tested_so(tmp_path: Path) -> None:
    place = folder(
        tmp_path,
        stations="station_id,name\n1,A\n2,B\n3,C\n",
        tariffs="id,fee\n1,5\n2,6\n",
        rentals="rental_id,start_station_id,end_station_id,tariff_id,count\n" + "7,1,2,1,1\n8,3,9,2,3\n9,2,2,1,2\n",
    )
    source = inspect_source("shop", place)
    rentals = next(n for n, table in enumerate(source.tables) if table.name == "rentals")
    found = {
        name: test["relationships"]["arguments"]
        for name, column in proposed(source, rentals).items()
        for test in column
        if "relationships" in test
    }
    assert found == {
        "start_station_id": {"to": "ref('stg_shop__stations')", "field": "station_id"},
        "tariff_id": {"to": "ref('stg_shop__tariffs')", "field": "id"},
    }


@pytest.mark.parametrize(
    ("column", "table", "key", "expected"),
    [
        ("o_custkey", "customer", "c_custkey", True), ("l_orderkey", "orders", "o_orderkey", True),
        ("customer_id", "customers", "id", True), ("carrier", "airlines", "carrier", True),
        ("id", "customers", "id", False), ("n_name", "regions", "r_name", False), ("count", "tariffs", "id", False),
    ],
)  # fmt: skip
def test_a_name_says_what_it_refers_to(column: str, table: str, key: str, expected: bool) -> None:
    assert refers(column, table, key) is expected


def test_words_for_no_value_are_told_and_may_be_given(tmp_path: Path) -> None:
    place = folder(
        tmp_path,
        planes="tail,speed,kind,left\nN1,NA,x,none\nN2,NA,NA,-\nN3,90,y,5\n",
        other="n,land\n1,NA\n2,zz\n",
    )
    source = inspect_source("shop", place)
    nulls = {f"{t.name}.{c.name}": c.null for t in source.tables for c in t.columns if c.null}
    assert nulls == {
        "planes.speed": ("NA",), "planes.kind": ("NA",), "planes.plane_left": ("-", "none"), "other.land": ("NA",)
    }  # fmt: skip
    assert "planes.speed: NA taken for no value in 2 of 3 rows" in source.notes
    planes = next(n for n, table in enumerate(source.tables) if table.name == "planes")
    assert proposed(source, planes)["speed"] == []
    given = inspect_source("shop", place, words={"planes": ("NA",)})
    nulls = {f"{t.name}.{c.name}": c.null for t in given.tables for c in t.columns if c.null}
    assert nulls == {"planes.speed": ("NA",), "planes.kind": ("NA",)}
    with pytest.raises(GranaryError, match="there is no table 'nothing'"):
        inspect_source("shop", place, words={"nothing": ("NA",)})


def test_files_that_differ_are_not_declared_alike(tmp_path: Path) -> None:
    (tmp_path / "t_2024-01.csv").write_text("id;name\n1;Ada\n2;Ben\n")
    (tmp_path / "t_2024-02.csv").write_text("id,name\n1,Ada\n2,Ben\n")
    source = inspect_source("shop", str(tmp_path))
    assert source.opening.formats == ()
    assert any("differ in delimiter (';' in t_2024-01.csv, ',' in t_2024-02.csv)" in words for words in source.notes)
    (tmp_path / "t_2024-02.csv").write_text("id;name\n1;Ada\n2;Ben\n")
    assert [group.parts for group in inspect_source("shop", str(tmp_path)).opening.formats] == [('delimiter=";"',)]


def test_a_way_of_writing_is_declared_only_if_files_that_were_not_opened_have_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaffold_files, "FILES", 3)
    for month in range(1, 10):
        (tmp_path / f"t_2024-0{month}.csv").write_text("id;name\n1;Ada\n2;Ben\n")
    (tmp_path / "t_2024-04.csv").write_text("id,name\n1,Ada\n2,Ben\n")
    source = inspect_source("shop", str(tmp_path))
    assert source.opening.formats == ()
    assert any("differ in delimiter" in words for words in source.notes)


def test_rows_that_no_load_can_take_are_told(tmp_path: Path) -> None:
    place = folder(tmp_path, t="id,name\n1,Ada\n2,Ben,more\n3,Cleo\n")
    (said,) = [words for words in inspect_source("shop", place).notes if "refused" in words]
    assert said == "t: 1 of 3 rows cannot be read and will be refused (t.csv, line 3: has 3 fields, not 2)"


def test_a_file_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    when = pa.array([253_402_214_400_000_000, 0], pa.timestamp("us"))  # the year 9999
    orc.write_table(pa.table({"at": when}), tmp_path / "late.orc")
    with pytest.raises(GranaryError, match=r"late\.orc"):
        inspect_source("shop", str(tmp_path))
    (tmp_path / "good.csv").write_text("id\n1\n")
    source = inspect_source("shop", str(tmp_path))
    assert [table.name for table in source.tables] == ["good"]
    assert source.skipped[0].startswith("late.orc: ")


def test_one_broken_file_among_others_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "t_2024-01.csv").write_text('id,name\n1,"never closed\n')
    (tmp_path / "t_2024-02.csv").write_text("id,name\n1,Ada\n")
    source = inspect_source("shop", str(tmp_path))
    assert source.notes[0].startswith("t: t_2024-01.csv cannot be read, and no load will take it: ")
    assert source.tables[0].rows == 1


def test_a_given_cursor_that_is_empty_somewhere_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.executescript(
            "create table orders (id integer primary key, changed timestamp);"
            "insert into orders values (1, '2024-01-01 00:00:00'), (2, null);"
        )
    connection.close()
    with pytest.raises(GranaryError, match="the given cursor changed is empty in 1 of 2 rows"):
        inspect_source("shop", f"sqlite:///{tmp_path}/shop.db", cursors={"orders": "changed"})


def test_dates_that_do_not_tell_their_order_stay_text(tmp_path: Path) -> None:
    doubtful = "id,day\n1,01/02/2023\n2,03/04/2023\n"
    (table,) = inspect_source("shop", folder(tmp_path, t=doubtful)).tables
    assert [column.cast for column in table.columns] == ["", ""]
    told = doubtful.replace("day", "day,sent").replace("/2023\n", "/2023,13/02/2023\n")
    source = inspect_source("shop", folder(tmp_path, t=told))
    assert [column.cast for column in source.tables[0].columns] == ["", "t_day_date", "sent_date"]


def test_a_point_in_the_company_of_decimal_commas_is_no_fraction(tmp_path: Path) -> None:
    source = inspect_source("shop", folder(tmp_path, t="id;price;count\n1;3,50;1.234\n2;4,25;999\n3;1.000,75;2.500\n"))
    columns = {column.name: column for column in source.tables[0].columns}
    assert (str(columns["count"].type), columns["count"].cast) == ("string", "count_number")
    assert columns["count"].written is not None
    assert columns["count"].written.style == ","


def test_a_number_too_large_for_a_bigint_may_be_a_key() -> None:
    numbers = [2**63 + number for number in range(30)]
    made = {"at": pa.array(range(30), pa.timestamp("us")), "uid": pa.array(numbers, pa.decimal128(20, 0))}
    assert keys(made) == [("uid",), ("at",)]


@pytest.mark.parametrize(
    ("column", "rows", "disposition"),
    [
        ("place", 30, "replace_unit"),
        ("place", 1_000, "merge"),
        ("place_id", 30, "merge"),
        ("place", 999, "replace_unit"),
    ],
)
def test_no_load_overwrites_by_a_key_that_a_few_rows_suggest(column: str, rows: int, disposition: str) -> None:
    moments = pa.array([0] * rows, pa.timestamp("us", "UTC"))
    sample = pa.table({column: [f"p{number}" for number in range(rows)], "updated_at": moments})
    found = Found("orders", "orders", sample, timedelta(1), "all", complete=True, whole=False)
    (made,) = plan("shop", "api", OPENING, [found]).tables
    assert (made.key, made.disposition) == ((column,), disposition)


def test_dates_with_short_years_are_told(tmp_path: Path) -> None:
    place = folder(tmp_path, t="id,due,ip,share\n1,31/12/24,10.1.12,1-2-34\n2,1.2.25 10:00,1.2.3,\n3,,7.8.123,\n")
    assert [words for words in inspect_source("shop", place).notes if "short" in words or "two digits" in words] == [
        f"t.{name}: its dates have years of two digits: it stays text, unless you say how they are written (dates)"
        for name in ("due", "share")
    ]


REPORT = "Sales by bed\nas of 2025-03-01\n\nbed;plant;sold\n1;leek;40,5\n2;kale;38\n3;chard;9\n"


def test_a_title_and_a_total_are_told(tmp_path: Path) -> None:
    place = folder(tmp_path, **{"sales_2025-03": REPORT + "Total;;87,5\n", "sales_2025-04": REPORT + "Total;;87,5\n"})
    source = inspect_source("shop", place)
    assert "skip=3" in source.opening.formats[0].parts
    assert source.tables[0].rows == 8
    assert source.notes[:2] == (
        "sales: the 3 lines above the header are taken for a title, and left out (skip=3)",
        "sales: 2 of its files end with a total ('Total' in sales_2025-03.csv): it lands like the others;"
        " leave it out in staging",
    )


def test_titles_of_another_length_are_told(tmp_path: Path) -> None:
    place = folder(tmp_path, **{"sales_2025-03": REPORT, "sales_2025-04": REPORT.partition("\n")[2]})
    (said,) = [words for words in inspect_source("shop", place).notes if "skip" in words]
    assert said == (
        "sales: its files differ in skip (3 in sales_2025-03.csv, 2 in sales_2025-04.csv): each load"
        " finds the header by its names"
    )


@pytest.mark.parametrize(
    "text", ["$4.%02d", "4,%02d", "1.2%02d,5", "%d kWh", "%d %%", "(1%d.25)", "€ %d", "-3.%02d", "%d km/h"]
)
def test_an_amount_is_no_key_however_unique_it_is(text: str) -> None:
    assert keys({"read": [text % number for number in range(10, 40)]}) == []


@pytest.mark.parametrize("text", ["%05d", "A%d", "2024-%d", "1-2%d", "1.2.%d", "12%dB", "1.2%02d"])
def test_a_code_is_a_key(text: str) -> None:
    assert keys({"read": [text % number for number in range(10, 40)]}) == [("read",)]
