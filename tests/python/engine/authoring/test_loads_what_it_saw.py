"""A generated contract loads the very data that was looked at: every row, with the values that were sent."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.load import api as load
from granary.scaffold.inspection import inspect_source
from granary.scaffold.source import module
from granary.scaffold.write import files, write
from granary.warehouse.connection import connect, ensure_database, execute, query
from tests.python.engine.authoring.test_generated import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.scaffold.plan import PlannedSource
    from granary.warehouse.settings import Settings

SHARES = "".join(f'{n},"C:\\shares\\team{n}","ops"\n' for n in range(400))


@dataclass
class Odd:
    """An odd data set: files by name, how many rows they have, and some values by query on `raw_odd`."""

    files: dict[str, Any]
    rows: dict[str, int]
    values: dict[str, list[tuple[Any, ...]]]


ODD: dict[str, Odd] = {
    "backslashes before quotes": Odd(
        {"t.csv": f'id,path,owner\n{SHARES}999,"D:\\archive\\","audit"\n'},
        {"t": 401},
        {"path, owner from raw_odd.t where id in (7, 999) order by id": [
            ("C:\\shares\\team7", "ops"), ("D:\\archive\\", "audit")]},
    ),
    "backslashes that escape": Odd(
        {"t.csv": 'id,word\n1,"say \\"hi\\", he said"\n2,"no"\n'},
        {"t": 2},
        {"word from raw_odd.t where id = 1": [('say "hi", he said',)]},
    ),
    "years as names": Odd(
        {"t.csv": "region,2023,2024\nnorth,12.5,13.1\nsouth,7,8\n"},
        {"t": 2},
        {"region, column_2023, column_2024 from raw_odd.t order by 1": [
            ("north", Decimal("12.5"), Decimal("13.1")), ("south", 7, 8)]},
    ),
    "one name twice": Odd(
        {"t.csv": "id,answer,answer\n1,blue,red\n2,red,red\n"},
        {"t": 2},
        {"answer, answer_2 from raw_odd.t order by id": [("blue", "red"), ("red", "red")]},
    ),
    "codes": Odd(
        {"t.csv": "id,code,plz,phone,version,serial\n1,12E5,04177,4930123,1.1,12345678901234567890\n"
                  "2,1E2,10115,4930124,1.10,12345678901234567891\n"},
        {"t": 2},
        {"code, plz, phone, version, serial from raw_odd.t order by id": [
            ("12E5", "04177", "4930123", "1.1", "12345678901234567890"),
            ("1E2", "10115", "4930124", "1.10", "12345678901234567891")]},
    ),
    "very large, very small and very exact numbers": Odd(
        {"t.csv": "id,large,exact,residue\n1,1.5e25,123456789012345678.91,0.30000000000000004\n"
                  "2,2E+10,0.01,1e-05\n"},
        {"t": 2},
        {"large, exact, residue from raw_odd.t order by id": [
            (1.5e25, Decimal("123456789012345678.91"), 0.30000000000000004), (2e10, Decimal("0.01"), 1e-05)]},
    ),
    "words for no value": Odd(
        {"t.csv": "id,speed,tail,land,day\n1,NA,N1,NA,2024-01-01\n2,NA,NA,DE,NA\n3,90,N3,FR,2024-01-03\n"},
        {"t": 3},
        {"speed, tail, land, day from raw_odd.t order by id": [
            (None, "N1", "NA", date(2024, 1, 1)), (None, None, "DE", None), (90, "N3", "FR", date(2024, 1, 3))]},
    ),
    "quoted words for no value": Odd(
        {"t.csv": 'id,n\n1,"NA"\n2, NA \n3,"7"\n'},
        {"t": 3},
        {"n from raw_odd.t order by id": [(None,), (None,), (7,)]},
    ),
    "written as people write": Odd(
        {"t.csv": 'id,day,price,share,paid,at\n1,31/12/2023,"$1,000.50",5%,yes,09:30\n'
                  '2,01/02/2023,$5.00,7.5%,no,23:59\n'},
        {"t": 2},
        {"day, price, share, paid, at from raw_odd.t order by id": [
            ("31/12/2023", "$1,000.50", "5%", "yes", "09:30"), ("01/02/2023", "$5.00", "7.5%", "no", "23:59")]},
    ),
    "a delimiter at the end of each row": Odd(
        {"line.tbl": "1|a|3.50|\n2|b|4.50|\n", "part.tbl": "7|x|\n"},
        {"line": 2, "part": 1},
        {"column_1, column_2, column_3 from raw_odd.line order by 1": [
            (1, "a", Decimal("3.5")), (2, "b", Decimal("4.5"))]},
    ),
    "a delimiter at the end of header and rows": Odd(
        {"t.csv": "id,name,\n1,x,\n2,y,\n"},
        {"t": 2},
        {"* from raw_odd.t where false": []},
    ),
    "suffixes that say nothing": Odd(
        {"clients.dat": "id;name\n1;Ada\n2;Ben\n", "sales.out": "id,sum\n1,2.5\n", "notes.md": "Not, a table.\nNo\n"},
        {"clients": 2, "sales": 1},
        {"name from raw_odd.clients order by id": [("Ada",), ("Ben",)]},
    ),
    "files that differ": Odd(
        {"t_2024-01.csv": "id;name\n1;Ada\n", "t_2024-02.csv": "id,name\n2,Ben\n", "t_2024-03.csv": "3,Cleo\n4,Dan\n"},
        {"t": 4},
        {"id, name from raw_odd.t order by id": [(1, "Ada"), (2, "Ben"), (3, "Cleo"), (4, "Dan")]},
    ),
    "numbers and then texts in JSON": Odd(
        {"t.jsonl": "".join(f'{{"id": {n}, "v": 5, "pad": "{"x" * 1000}"}}\n' for n in range(5000))
                    + '{"id": 5000, "v": "abc", "pad": ""}\n{"id": 5001, "v": true, "pad": ""}\n'},
        {"t": 5002},
        {"v, count(*) from raw_odd.t group by v order by v": [("5", 5000), ("abc", 1), ("true", 1)]},
    ),
    "large numbers in JSON": Odd(
        {"t.jsonl": '{"device": 18446744073709551615, "sum": 4.5, "n": 1}\n{"device": 18446744073709551614, "n": 2}\n'},
        {"t": 2},
        {"device, sum, n from raw_odd.t order by n": [
            (Decimal("18446744073709551615"), Decimal("4.5"), 1), (Decimal("18446744073709551614"), None, 2)]},
    ),
    "numbers in a JSON document": Odd(
        {"t.json": '{"rows": [{"n": 1, "sum": 4.5, "v": 7, "o": {"a": 1}}, {"n": 2, "sum": 1, "v": "x", "o": null}]}'},
        {"t": 2},
        {"sum, v, o from raw_odd.t order by n": [(Decimal("4.5"), "7", '{"a":1}'), (1, "x", None)]},
    ),
    "types without a counterpart": Odd(
        {"t.parquet": {
            "id": pa.array([1, 2]),
            "big": pa.array([1, 2**64 - 1], pa.uint64()),
            "at": pa.array([time(1, 2, 3), None]),
            "list": pa.array([[1], []]),
            "raw": pa.array([b"ab", b"cd"], pa.binary(2)),
            "text": pa.array(["a", "b"], pa.large_string()),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "nil": pa.nulls(2),
            "exact": pa.array([Decimal("1.25"), Decimal("1e45")], pa.decimal256(50, 2)),
            "small": pa.array([1, 255], pa.uint8()),
        }},
        {"t": 2},
        {"big, list, raw, text, kind, nil, small, exact from raw_odd.t order by id": [
            (1, "[1]", b"ab", "a", "x", None, 1, Decimal("1.25")),
            (Decimal(2**64 - 1), "[]", b"cd", "b", "y", None, 255, Decimal("1e45"))]},
    ),
    "odd names": Odd(
        {"t.csv": "'id',select,a: b,\"say \"\"x\"\"\",日本,{{ x }},#c,Größe (cm),load_id\n1,2,3,4,5,6,7,8,9\n"},
        {"t": 1},
        {"id, t_select, a_b, say_x, column_5, x, c, grosse_cm, t_load_id from raw_odd.t": [tuple(range(1, 10))]},
    ),
    "lines within values, and no newline at the end": Odd(
        {"t.csv": 'id,note\r\n1,"two\r\nlines"\r\n2,"a ""quote"""\r\n3,"\u2028"'},
        {"t": 3},
        {"note from raw_odd.t order by id": [("two\r\nlines",), ('a "quote"',), ("\u2028",)]},
    ),
    "one column, and one row": Odd(
        {"one.csv": "id\n1\n2\n", "row.csv": "id,name\n1,Ada\n"},
        {"one": 2, "row": 1},
        {"id from raw_odd.one order by 1": [(1,), (2,)]},
    ),
    "instants and local times": Odd(
        {"t.csv": "id,at,on_site\n1,2024-01-01T10:00:00+02:00,2024-01-01 10:00\n"
                  "2,2024-01-01T10:00Z,9999-12-31 23:59\n"},
        {"t": 2},
        {"at, on_site::text from raw_odd.t order by id": [
            (datetime(2024, 1, 1, 8, tzinfo=timezone.utc), "2024-01-01 10:00:00"),
            (datetime(2024, 1, 1, 10, tzinfo=timezone.utc), "9999-12-31 23:59:00")]},
    ),
}  # fmt: skip


@pytest.fixture
def loaded(
    warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[PlannedSource], dict[str, tuple[int, int]]]:
    """Return a function that writes a source and loads it: rows loaded and refused, by table."""

    def do(planned: PlannedSource) -> dict[str, tuple[int, int]]:
        write(planned, tmp_path / "project", tmp_path / "home", force=False)
        source = run(module(planned))
        monkeypatch.setattr(load, "SOURCES", {source.name: source})
        for name, value in planned.opening.settings.items():
            monkeypatch.setenv(name, value)
        results = [load.load_table(warehouse, source.name, table.name) for table in source.tables]
        assert not [unit for result in results for unit in result.units_unreadable]
        assert not [change for result in results for change in result.changes if change.change == "added"]
        return {result.table: (result.rows_loaded, result.rows_quarantined) for result in results}

    return do


@pytest.mark.parametrize("name", ODD)
def test_odd_files(
    name: str,
    tmp_path: Path,
    loaded: Callable[[PlannedSource], dict[str, tuple[int, int]]],
    rows: Callable[..., list[tuple[object, ...]]],
) -> None:
    odd, folder = ODD[name], tmp_path / "landing"
    folder.mkdir()
    for file, content in odd.files.items():
        if isinstance(content, str):
            (folder / file).write_text(content, newline="")
        else:
            pq.write_table(pa.table(content), folder / file)
    planned = inspect_source("odd", str(folder))
    assert {table.name: table.rows for table in planned.tables} == odd.rows
    assert loaded(planned) == {table: (number, 0) for table, number in odd.rows.items()}
    for asked, expected in odd.values.items():
        assert rows(f"select {asked}") == expected
    for place, table in enumerate(planned.tables):
        names = {column.name for column in table.columns}
        found = rows("select column_name from information_schema.columns where table_name = $1", table.name)
        assert {str(row[0]) for row in found} - {"_load_id", "_row"} == names, place


def test_a_third_in_a_database(
    warehouse: Settings,
    loaded: Callable[[PlannedSource], dict[str, tuple[int, int]]],
    rows: Callable[..., list[tuple[object, ...]]],
) -> None:
    database = f"{warehouse.database}_src"
    ensure_database(warehouse, database)
    with connect(warehouse, database, autocommit=True) as connection:
        execute(
            connection,
            "create table parts (id int primary key, share numeric, plain numeric, wide numeric(50, 2));"
            "insert into parts select n, case when n % 3 = 0 then n else n::numeric / 3 end, n / 4.0, n"
            " from generate_series(1, 20) n",
        )
        sent = query(connection, "select id, share::text, plain, wide::text from parts order by id")
    planned = inspect_source("odd", warehouse.uri(database))
    (table,) = planned.tables
    assert table.rows == 20
    assert {column.name: str(column.type) for column in table.columns}["plain"] == "decimal128(38, 9)"
    assert any("share is declared as numeric" in words for words in planned.notes)
    assert "part_share_number" in [column.cast for column in table.columns]
    assert loaded(planned) == {"parts": (20, 0)}
    assert rows("select id, share, plain, wide::text from raw_odd.parts order by id") == sent


def test_names_and_types_that_a_database_may_have(
    warehouse: Settings,
    loaded: Callable[[PlannedSource], dict[str, tuple[int, int]]],
    rows: Callable[..., list[tuple[object, ...]]],
) -> None:
    """Columns called as a reader calls its own, and types whose text looks like a number and is none."""
    database = f"{warehouse.database}_src"
    ensure_database(warehouse, database)
    with connect(warehouse, database, autocommit=True) as connection:
        execute(
            connection,
            "create table odd (id int primary key, c0 int, column_0 int, column_1 int, place point, bits bit(4),"
            " span int4range, listed int[], due text, price money);"
            "insert into odd values (1, 10, 20, 30, '(1,2)', '1010', '[1,5)', '{1}', '31/12/2024', '$1,234.50'),"
            " (2, 11, 21, 31, '(3,4)', '0001', '[2,3)', '{2}', '01/12/2024', '-$5.00')",
        )
    planned = inspect_source("odd", warehouse.uri(database))
    (table,) = planned.tables
    assert {column.name: column.cast for column in table.columns if column.cast} == {
        "due": "due_date",
        "price": "price_number",
    }
    assert loaded(planned) == {"odd": (2, 0)}
    assert rows("select c0, column_0, column_1, place, bits, span, listed, price from raw_odd.odd order by id") == [
        (10, 20, 30, "(1,2)", "1010", "[1,5)", "{1}", "$1,234.50"),
        (11, 21, 31, "(3,4)", "0001", "[2,3)", "{2}", "-$5.00"),
    ]


def test_a_row_that_changes_keeps_raw_and_ledger_equal(
    warehouse: Settings,
    loaded: Callable[[PlannedSource], dict[str, tuple[int, int]]],
    rows: Callable[..., list[tuple[object, ...]]],
) -> None:
    """A table that takes rows by key shares them among loads, so the test of a new project is not about it."""
    database = f"{warehouse.database}_src"
    ensure_database(warehouse, database)
    with connect(warehouse, database, autocommit=True) as connection:
        execute(
            connection,
            "create table keyed (id int primary key, v int); insert into keyed values (1, 10), (2, 20);"
            "create table keyless (n int, v int); insert into keyless values (1, 10), (1, 10)",
        )
        planned = inspect_source("odd", warehouse.uri(database))
        assert loaded(planned) == {"keyed": (2, 0), "keyless": (2, 0)}
        execute(connection, "update keyed set v = 11 where id = 1; update keyless set v = 11")
    assert [load.load_table(warehouse, "odd", table).rows_loaded for table in ("keyed", "keyless")] == [2, 2]
    assert rows("select id, v from raw_odd.keyed order by id") == [(1, 11), (2, 20)]
    assert rows("select n, v from raw_odd.keyless") == [(1, 11), (1, 11)]
    said = files(planned)["tests/dbt/raw_odd_reconciles_with_ledger.sql"]
    assert re.findall(r"\('odd', '(\w+)', none\)", said) == ["keyless"]
    tables = [{"source": "odd", "table": "keyless", "relation": "raw_odd.keyless", "model": None}]
    assert rows("select * from ops.ledger_differences($1, 0)", json.dumps(tables)) == []


def test_anything_in_sqlite(
    tmp_path: Path,
    loaded: Callable[[PlannedSource], dict[str, tuple[int, int]]],
    rows: Callable[..., list[tuple[object, ...]]],
) -> None:
    with sqlite3.connect(tmp_path / "any.db") as connection:
        connection.executescript(
            "create table things (id integer primary key, n integer, day date);"
            "insert into things values (1, 5, '2024-01-01'), (2, 'five', '2024-01-02'), (3, null, null);"
        )
    connection.close()
    planned = inspect_source("odd", f"sqlite:///{tmp_path}/any.db")
    assert loaded(planned) == {"things": (3, 0)}
    assert rows("select n, day from raw_odd.things order by id") == [
        ("5", date(2024, 1, 1)),
        ("five", date(2024, 1, 2)),
        (None, None),
    ]
