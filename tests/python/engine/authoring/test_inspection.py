"""Databases and APIs that nobody has described: what is proposed, loaded for real, and where secrets go."""

from __future__ import annotations

import json
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pytest

from granary.scaffold.apis import columns, credentials
from granary.scaffold.inspection import inspect_source
from granary.scaffold.source import module
from granary.scaffold.subjects import marked
from granary.scaffold.write import files
from granary.warehouse.connection import connect, ensure_database, execute
from granary.warehouse.errors import GranaryError
from tests.python.engine.authoring.test_generated import run
from tests.python.support.workbooks import archive, workbook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.scaffold.plan import PlannedSource
    from granary.warehouse.settings import Settings

KEY = "k3y-that-nobody-may-see"
DAYS: list[dict[str, Any]] = [
    {
        "id": n,
        "day": f"2024-01-{1 + n % 28:02d}",
        "rain": n / 4,
        "site": {"code": f"0{n % 3}", "open": True},
        "tags": ["a"],
    }
    for n in range(250)
]


@pytest.fixture
def service() -> Iterator[str]:
    """Return the address of an API with a key and pages of 100."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = dict(parse_qsl(urlsplit(self.path).query))
            known = KEY in (self.headers.get("X-Api-Key"), asked.get("api_key"))
            page = int(asked.get("page", 1))
            body = {"items": DAYS[100 * page - 100 : 100 * page], "page": page, "total_pages": 3, "total": len(DAYS)}
            answer = json.dumps(body if known else {"error": "no key"}).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/days"
        server.shutdown()
        thread.join()


def rows(planned: PlannedSource, table: str) -> pa.Table:
    """Read a table with the generated module, as a load would."""
    source = run(module(planned))
    spec = source.table(table)
    reader = source.open_reader(planned.opening.settings)
    return pa.concat_tables(
        [
            pa.Table.from_batches([source_batch.batch])
            for unit in reader.units(spec, None)
            for source_batch in reader.read(spec, unit, None)
        ]
    )


@pytest.mark.parametrize("way", ["header", "parameter"])
def test_an_api_is_read_by_what_was_written(service: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_WX_KEY", KEY)
    planned = (
        inspect_source("wx", service, header="X-Api-Key")
        if way == "header"
        else inspect_source("wx", f"{service}?api_key={KEY}")
    )
    (table,) = planned.tables
    assert (table.name, table.key, table.disposition, table.complete) == ("days", ("id",), "replace", False)
    assert {column.name: column.type for column in table.columns} == {
        "id": pa.int64(),
        "day": pa.date32(),
        "rain": pa.decimal128(18, 2),
        "site_code": pa.string(),
        "site_open": pa.bool_(),
        "tags": pa.string(),
    }
    assert all(KEY not in content for content in files(planned).values())
    assert KEY not in repr(planned)
    assert planned.opening.settings["GRANARY_WX_KEY"] == KEY
    assert rows(planned, "days").num_rows == 250


def test_an_api_without_its_key_says_so(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRANARY_WX_KEY", raising=False)
    with pytest.raises(GranaryError, match="GRANARY_WX_KEY is not set"):
        inspect_source("wx", service, header="bearer")
    with pytest.raises(GranaryError, match=r"401|refuses"):
        inspect_source("wx", service)


def test_credentials_leave_the_address() -> None:
    bare, auth, shown, secret = credentials("https://me:p%40ss@api.example:8443/v1?x=1", None, "GRANARY_WX_KEY")
    assert (bare, secret) == ("https://api.example:8443/v1?x=1", "p@ss")
    assert "p@ss" not in repr(auth)
    assert shown is not None
    assert shown.parts == ('"me"', 'settings["GRANARY_WX_KEY"]')


def test_a_secret_in_a_files_address_is_refused_before_it_is_in_code() -> None:
    with pytest.raises(GranaryError, match="secret among its parameters") as raised:
        inspect_source("wx", f"https://me:{KEY}@files.example/days.csv?token={KEY}")
    assert KEY not in str(raised.value)


def test_json_keeps_what_a_contract_needs() -> None:
    found = columns(
        [{"a": 1, "b": {"c": 1.10, "d.e": 2}, "t": "2024-01-01T00:00:00Z"}, {"a": 2.5, "n": None, "t": None}]
    )
    assert {name: str(found.schema.field(name).type) for name in found.column_names} == {
        "a": "decimal128(18, 2)",
        "b": "string",  # a part with a dot in its name cannot be told from a path
        "t": "timestamp[us, tz=UTC]",
        "n": "string",
    }


def test_a_database_is_read_by_what_was_written(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.executescript(
            'create table customers (id integer primary key, name text, "E-Mail" text, updated_at timestamp not null);'
            'create table lines ("order" integer, line integer, qty int, primary key ("order", line));'
            "create table log (msg text); create view v as select * from customers;"
        )
        for n in range(30):
            connection.execute("insert into customers values (?, 'x', null, ?)", (n, f"2024-01-01 00:{n:02d}:00"))
            connection.execute("insert into lines values (?, ?, ?)", (n // 3, n % 3, n))
            connection.execute("insert into log values ('same')")
    connection.close()
    planned = inspect_source("shop", f"sqlite:///{tmp_path}/shop.db")
    assert [(table.name, table.key, table.cursor, table.disposition) for table in planned.tables] == [
        ("customers", ("id",), "updated_at", "merge"),
        ("lines", ("line_order", "line"), None, "replace"),
        ("log", (), None, "replace_unit"),
    ]
    assert planned.skipped == ("v: it is a view; take it with --table v",)
    assert rows(planned, "lines").num_rows == 30
    assert {column.name: column.personal for column in planned.tables[0].columns}["e_mail"] == "identifier"
    with pytest.raises(GranaryError, match="no table 'orders'"):
        inspect_source("shop", f"sqlite:///{tmp_path}/shop.db", only=("orders",))


def test_tables_that_the_login_may_not_read_are_told_with_the_grant(warehouse: Settings) -> None:
    database = f"{warehouse.database}_rights"
    ensure_database(warehouse, database)
    with connect(warehouse, database, autocommit=True) as connection:
        for sql in (
            "create table orders (id int primary key)",
            "create table salaries (id int primary key)",
            "create table parts (id int) partition by range (id)",
            "create table part_1 partition of parts for values from (0) to (9)",
            "create schema inner_circle",
            "create table inner_circle.plans (id int)",
            "insert into orders values (1), (2)",
            "grant select on orders to pg_monitor",
        ):
            execute(connection, sql)
    uri = warehouse.uri(database)
    uri += f"{'&' if '?' in uri else '?'}options=-crole%3Dpg_monitor"
    planned = inspect_source("shop", uri)
    assert [table.name for table in planned.tables] == ["orders"]
    grants = ('grant select on all tables in schema "inner_circle" to "pg_monitor"',
              'grant select on all tables in schema "public" to "pg_monitor"')  # fmt: skip
    assert planned.skipped == (
        "inner_circle.plans: the login may not read it:"
        f' grant usage on schema "inner_circle" to "pg_monitor"; {grants[0]}',
        f"public.parts, public.salaries: the login may not read it: {grants[1]}",
    )
    with pytest.raises(GranaryError, match=f"the login may not read salaries .*; {grants[1]}"):
        inspect_source("shop", uri, only=("salaries",))


def test_postgres_declares_more_than_a_sample_shows(warehouse: Settings) -> None:
    database = f"{warehouse.database}_src"
    ensure_database(warehouse, database)
    with connect(warehouse, database, autocommit=True) as connection:
        execute(
            connection,
            'create table orders (order_id uuid primary key, "user" text, total numeric(8, 2), bin bytea,'
            " small smallint, free numeric, changed_at timestamptz not null default now(), doc jsonb)",
        )
        execute(
            connection,
            'insert into orders (order_id, "user", total)'
            " select gen_random_uuid(), 'u' || n, n from generate_series(1, 5) n",
        )
    planned = inspect_source("shop", warehouse.uri(database), keys={}, cursors={})
    (table,) = planned.tables
    assert (table.key, table.cursor, table.disposition, planned.kind) == (
        ("order_id",),
        "changed_at",
        "merge",
        "postgres",
    )
    assert {column.name: (column.staged, str(column.type)) for column in table.columns} == {
        "order_id": ("order_id", "string"),
        "order_user": ("order_user", "string"),
        "total": ("total", "decimal128(8, 2)"),
        "bin": ("bin", "binary"),
        "small": ("small", "int16"),
        "free": ("free", "decimal128(38, 9)"),
        "changed_at": ("changed_at", "timestamp[us, tz=UTC]"),
        "doc": ("doc", "string"),
    }
    assert warehouse.uri(database) not in "".join(files(planned).values())
    given = inspect_source("shop", warehouse.uri(database), keys={"orders": ("user",)}, cursors={"orders": "total"})
    assert (given.tables[0].key, given.tables[0].cursor) == (("order_user",), "total")


def test_a_folder_of_every_format_is_read_by_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "nohead.csv").write_text("".join(f"{n},2024-01-{1 + n % 28:02d},x\n" for n in range(30)))
    (tmp_path / "events.jsonl").write_text('{"id": 1, "at": "2024-01-01T00:00:00Z"}\n{"id": 2, "at": null}\n')
    (tmp_path / "doc.json").write_text('{"rows": [{"a": 1, "b": "01"}]}')
    (tmp_path / "items.xml").write_text("<r><item id='1'><price>2.50</price></item><item id='2'/></r>")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "evil\x1b[31m.csv").write_text("a\n1\n")
    (tmp_path / "notes.md").write_text("not a table")
    for month, line in (("01", "1,2"), ("02", "3,4,5")):
        header = "Order,Größe" + (",Extra" if month == "02" else "")
        (tmp_path / f"lots_{month}.csv").write_text(f"{header}\n{line}\n")
    planned = inspect_source("mix", str(tmp_path))
    found = {table.name: [(column.name, str(column.type)) for column in table.columns] for table in planned.tables}
    assert found == {
        "doc": [("a", "int64"), ("b", "string")],
        "events": [("id", "int64"), ("at", "timestamp[us, tz=UTC]")],
        "items": [("id", "int64"), ("price", "decimal128(18, 2)")],
        "lots": [("lot_order", "int64"), ("grosse", "int64"), ("extra", "int64")],
        "nohead": [("column_1", "int64"), ("column_2", "date32[day]"), ("column_3", "string")],
    }
    assert planned.skipped == (
        "'evil\\x1b[31m.csv': its name has unprintable characters",
        "notes.md: no known format; give the file itself to have it looked at",
        "empty.csv: it is empty",
    )
    assert [rows(planned, name).num_rows for name in found if name != "lots"] == [1, 2, 2, 30]
    (extra,) = (column for column in run(module(planned)).table("lots").columns if column.name == "extra")
    assert (extra.missing, extra.aliases) == ("null", ("Extra",))


def test_what_else_is_in_a_file_is_told(tmp_path: Path) -> None:
    month = [["day", "guests"], [1, 10], [2, 20]]
    lists = {"data": {"items": [{"id": 1}, {"id": 2}]}, "me\x1bta": {"tags": [{"t": 1}]}}
    for name, content in {
        "hotel.xlsx": workbook(Jan=month, Feb=month, Lists=[["room"], ["blue"]]),
        "two.zip": archive(**{"README.md": b"Two exports, of May", "a.csv": b"id;v\n1;x\n", "b.csv": b"id;w\n2;y\n"}),
        "one.zip": archive(**{"README.md": b"Two exports, of May", "a.csv": b"id;v\n1;x\n", "b.csv": b"v;id\ny;2\n"}),
        "lists.json": json.dumps(lists).encode(),
        "order.json": json.dumps({"no": 1, "buyer": {"phones": [{"n": 1}, {"n": 2}]}}).encode(),
        "feed.xml": b"<f><t>x</t><i><item id='1'/><item id='2'/></i><r><refund id='7'/><refund id='8'/></r></f>",
    }.items():
        (tmp_path / name).write_bytes(content)
    planned = inspect_source("mix", str(tmp_path))
    assert [note for note in planned.notes if "a guess" not in note] == [
        "feed: each element item is a row; ignored: refund",
        "hotel: the sheets 'Feb', 'Lists' are not read: declare which one is, Excel(sheet=…)",
        "lists: 2 rows: the objects at data.items (path); ignored: me\\x1bta",
        "order: the document is one row, though it has arrays of objects (path makes rows of one): buyer.phones",
        "two: the archive's members have different columns (a.csv and b.csv) and land in one table; if they are"
        " different tables, unpack the archive, or declare a source for each, FileReader(members=…)",
    ]
    found = {table.name: len(table.columns) for table in planned.tables}
    missing = {column.name: column.missing for column in run(module(planned)).table("two").columns}
    assert (missing["v"], missing["w"]) == ("null", "null")
    assert found == {"feed": 1, "hotel": 2, "lists": 1, "one": 2, "order": 2, "two": 3}
    assert [rows(planned, name).num_rows for name in ("feed", "hotel", "lists", "order")] == [2, 2, 2, 1]


def test_sheets_with_one_header_are_one_table(tmp_path: Path) -> None:
    head = ["day", "guests"]
    two = {"Jan": [["Hotel"], head, [1, 10]], "Feb": [["Hotel"], head, [2, 20]], "Sheet3": [[]]}
    (tmp_path / "hotel_2023.xlsx").write_bytes(workbook(**two))
    (tmp_path / "hotel_2024.xlsx").write_bytes(workbook(Jan=[["Hotel"], head, [3, 30]]))
    planned = inspect_source("hotel", str(tmp_path))
    assert "Excel(sheet='*', header_row=2, sheet_column='sheet')" in module(planned).replace('"', "'")
    said = "its 2 sheets have the same header, and are read one below the other: sheet says which"
    assert any(said in note for note in planned.notes), planned.notes
    assert rows(planned, "hotel").sort_by("day").to_pylist() == [
        {"day": "1", "guests": "10", "sheet": "Jan"},
        {"day": "2", "guests": "20", "sheet": "Feb"},
        {"day": "3", "guests": "30", "sheet": "Jan"},
    ]


def test_an_address_that_nothing_reads_is_told_so() -> None:
    with pytest.raises(GranaryError, match=r"no reader knows addresses with nosuch:// \(nosuch://host/x\)"):
        inspect_source("mix", "nosuch://reader:secret@host/x")


def test_the_table_that_a_subjects_key_points_to_is_the_subjects_too(tmp_path: Path) -> None:
    """Else `granary forget` would leave the person's own row, with the e-mail address, where it is."""
    with sqlite3.connect(tmp_path / "club.db") as connection:
        connection.executescript(
            "create table members (id integer primary key, email text);"
            "create table visits (visit_id integer primary key, member_id integer, spent integer);"
            "create table letters (letter_id integer primary key, email text);"
            "insert into members values (1, 'a@example.org'), (2, 'b@example.org');"
            "insert into visits values (10, 1, 5), (11, 1, 6), (12, 2, 7);"
            "insert into letters values (20, 'a@example.org');"
        )
    connection.close()
    planned, kinds = marked(inspect_source("club", f"sqlite:///{tmp_path}/club.db"), {"member": "member_id"})
    assert kinds == {"member": "number"}
    assert {
        (table.name, one.name): one.subject for table in planned.tables for one in table.columns if one.subject
    } == {
        ("visits", "member_id"): "member",
        ("members", "id"): "member",
    }
    assert planned.notes[-2:] == (
        "members.id: a member's key too, as others point to it",
        "letters: it has personal columns and no data subject's key, so `granary forget` does not reach it",
    )
