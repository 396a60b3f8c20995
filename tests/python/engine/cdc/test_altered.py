"""Every form of `alter table` at the source: the copy equals it afterwards, or the capture stops and says why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from granary.cdc.capture import opened
from granary.cdc.status import status
from granary.load.captured import LostSlotError
from granary.sources.spec import Source, Table
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.support.captured_shop import CAPTURER, PAGES, Shop

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

CHANGES = (
    "insert into pages (slug, body, visits) values ('new', 'n', 9)",
    "update pages set body = 'changed' where slug = 'b'",
)
PREPARE = (
    "drop schema if exists elsewhere cascade",
    "drop table if exists books, pages, other cascade",
    "drop type if exists mood, paged",
    "drop domain if exists amount",
    "drop function if exists deny",
    "create type mood as enum ('sad', 'glad')",
    "create domain amount as integer",
    "create table other (id bigint primary key)",
    "create function deny() returns trigger language plpgsql as $$ begin return new; end $$",
)
TABLE = (
    "create table pages (slug text primary key, body text, picture bytea, visits bigint, note varchar(10) default 'x',"
    " mood mood default 'sad', n amount default 7, cost numeric(6, 2) default 1.5,"
    " at timestamp(3) default '2024-01-01', ref bigint)",
    "insert into pages (slug, body, visits) values ('a', 'first', 1), ('b', null, 2)",
    "create trigger watch before insert on pages for each row execute function deny()",
    'alter publication "granary shop" add table pages',
    f"grant select on pages to {CAPTURER}",
)
"""The table pages with columns of many kinds that no contract names."""
MAKE = (*PREPARE, *TABLE)


@dataclass(frozen=True)
class Form:
    """Statements at the source, and what the capture says of them ('' if it goes on)."""

    statements: tuple[str, ...]
    said: str = ""


def form(*statements: str, said: str = "") -> Form:
    return Form(statements, said)


FORMS = (
    # columns that come
    form("alter table pages add region text"),
    form("alter table pages add region text default null"),
    form("alter table pages add region text not null default 'EU'", said="column region was added with a default"),
    form("alter table pages add made timestamptz default now()", said="column made was added with a default"),
    form(
        "alter table pages add token text default gen_random_uuid()::text", said="column token was added and the rows"
    ),
    form("alter table pages add nr bigint generated always as identity", said="column nr was added and the rows"),
    form("alter table pages add nr bigserial", said="column nr was added and the rows"),
    form(
        "alter table pages add twice bigint generated always as (visits * 2) stored",
        said="column twice was added and the rows",
    ),
    # columns that go, and come again
    form("alter table pages drop note"),
    form(
        "alter table pages drop note", "alter table pages add note varchar(10)", said="note was dropped and added again"
    ),
    # columns that are called otherwise, or hold something else
    form("alter table pages rename note to remark", said="column note was renamed to remark"),
    form("alter table pages rename visits to calls", said="column visits was renamed to calls"),
    form("alter table pages alter visits type integer", said="visits was altered from bigint to integer"),
    form("alter table pages alter visits type bigint using visits * 10", said="the rows were written anew"),
    form("alter table pages alter note type text"),
    form("alter table pages alter note type varchar(20)"),
    form("alter table pages alter cost type numeric(12, 2)"),
    form(
        "alter table pages alter cost type numeric(12, 4)", said="cost was altered from numeric(6,2) to numeric(12,4)"
    ),
    form("alter table pages alter at type timestamptz", said="column at was altered"),
    form("alter table pages alter n type integer", said="column n was altered from amount to integer"),
    form("alter table pages alter ref type text", said="column ref was altered from bigint to text"),
    form("alter type mood rename value 'sad' to 'blue'", said="a value of the enumeration in column mood was renamed"),
    form("alter type mood add value 'calm' before 'glad'"),
    # what changes nothing that is stored
    form("alter table pages alter note set default 'later'"),
    form("alter table pages alter note drop default"),
    form("alter table pages alter visits set not null"),
    form("alter table pages alter visits set not null", "alter table pages alter visits drop not null"),
    form("alter table pages alter note set statistics 500"),
    form("alter table pages alter body set storage main"),
    form("alter table pages alter note set compression pglz"),
    form("alter table pages alter visits set (n_distinct = 5)", "alter table pages alter visits reset (n_distinct)"),
    form("alter table pages alter visits set not null, alter visits add generated by default as identity"),
    form("alter table pages add constraint few check (visits < 1000) not valid"),
    form("alter table pages add constraint few check (visits < 1000)", "alter table pages drop constraint few"),
    form("alter table pages add constraint own foreign key (ref) references other"),
    form("alter table pages add unique (visits)"),
    form("alter table pages disable trigger watch"),
    form("alter table pages enable always trigger watch"),
    form("alter table pages enable row level security", f"create policy p on pages to {CAPTURER} using (true)"),
    form("alter table pages cluster on pages_pkey", "cluster pages", "alter table pages set without cluster"),
    form("alter table pages set (fillfactor = 50)", "vacuum full pages"),
    form("alter table pages reset (fillfactor)"),
    form("alter table pages set access method heap"),
    form("alter table pages set tablespace pg_default"),
    form("alter table pages set logged"),
    form("alter table pages replica identity full"),
    form("alter table pages owner to current_user"),
    form(
        "create type paged as (slug text, body text, picture bytea, visits bigint, note varchar(10), mood mood,"
        " n amount, cost numeric(6, 2), at timestamp(3), ref bigint)",
        "alter table pages of paged",
        "alter table pages not of",
    ),
    form("truncate pages"),
    form("alter table pages rename constraint pages_pkey to pages_key"),
    # where it is, and who inherits from it
    form("alter table pages rename to books", said="no such table"),
    form("create schema elsewhere", "alter table pages set schema elsewhere", said="no such table"),
    form("create table heir () inherits (pages)", said="tables inherit from it"),
    # how it is published
    form(
        'alter publication "granary shop" drop table pages',
        "update pages set visits = 100",
        'alter publication "granary shop" add table pages',
        said="published in another way",
    ),
    form(
        'alter publication "granary shop" set table pages where (visits > 1), articles, "Order Lines"',
        said="published in another way",
    ),
)


@pytest.fixture
def copied(warehouse: Settings, shop: Shop) -> Shop:
    """Return a source that has been copied."""
    shop.sql(*MAKE)
    with opened(warehouse, shop.source) as capturing:
        capturing.once()
    return shop


def of(name: str, *statements: str) -> tuple[str, ...]:
    """Return the statements about another table than pages."""
    return tuple(statement.replace("pages", name) for statement in statements)


def rows(warehouse: Settings, shop: Shop, name: str) -> list[list[tuple[object, ...]]]:
    """Return the rows of source and copy, all columns that the source has, as text; one that the copy lacks is null."""
    columns = (
        "select attname::text from pg_attribute where attrelid = '{}'::regclass and attnum > 0 and not attisdropped"
    )
    names = [str(column) for (column,) in shop.rows(columns.format(name))]
    there = shop.rows(f"select {', '.join(f'{column}::text' for column in names)} from {name} order by slug")
    with connect(warehouse) as connection:
        known = {str(column) for (column,) in query(connection, columns.format(f"raw_shop.{name}"))}
        listed = ", ".join(f"{column}::text" if column in known else "null" for column in names)
        return [there, query(connection, f"select {listed} from raw_shop.{name} order by slug")]


def test_every_form_that_goes_on_leaves_an_equal_copy(warehouse: Settings, shop: Shop) -> None:
    """Each on a table of its own, all captured together."""
    forms = {f"pages_{number}": case for number, case in enumerate(FORMS) if not case.said}
    shop.sql(*PREPARE, *(statement for name in forms for statement in of(name, *TABLE)))
    tables = tuple(replace(PAGES, name=name, location=f"public.{name}") for name in forms)
    source = replace(shop.source, tables=tables)
    with opened(warehouse, source) as capturing:
        capturing.once()
    for name, case in forms.items():
        shop.sql(*of(name, *case.statements, *CHANGES))
    with opened(warehouse, source) as capturing:
        capturing.once()
    assert not [alarm for alarm in status(warehouse, source).alarms if "altered" in alarm]
    for name, case in forms.items():
        there, here = rows(warehouse, shop, name)
        assert here == there, case
        assert "new" in {slug for slug, *_ in there}, case


def test_every_other_form_is_said_and_demands_a_snapshot(warehouse: Settings, copied: Shop) -> None:
    shop = copied
    for case in FORMS:
        if not case.said:
            continue
        shop.sql(*case.statements)
        assert any(case.said in alarm for alarm in status(warehouse, shop.source).alarms), case
        with pytest.raises(GranaryError) as error, opened(warehouse, shop.source) as capturing:
            capturing.once()
        assert case.said in str(error.value), case
        shop.sql(*MAKE)
        with opened(warehouse, shop.source) as capturing:
            capturing.once(anew=True)


def test_a_renamed_column_that_the_contract_has_under_both_names_goes_on(warehouse: Settings, copied: Shop) -> None:
    visits = replace(PAGES.columns[3], aliases=("calls",))
    source = with_pages(copied.source, replace(PAGES, columns=(*PAGES.columns[:3], visits)))
    copied.sql("alter table pages rename visits to calls", "update pages set calls = 5 where slug = 'a'")
    with opened(warehouse, source) as capturing:
        capturing.once()
    with connect(warehouse) as connection:
        assert query(connection, "select slug, visits from raw_shop.pages order by slug") == [("a", 5), ("b", 2)]


def test_a_column_dropped_in_one_capture_and_added_in_a_later_one(warehouse: Settings, copied: Shop) -> None:
    for statement in ("alter table pages drop note", "alter table pages add region text"):
        copied.sql(statement)
        with opened(warehouse, copied.source) as capturing:
            capturing.once()
    copied.sql("alter table pages add note varchar(10)")
    with (
        pytest.raises(LostSlotError, match="column note was dropped and added again"),
        opened(warehouse, copied.source) as capturing,
    ):
        capturing.once()


def test_a_capture_from_before_shapes_were_kept_goes_on_and_keeps_them(warehouse: Settings, copied: Shop) -> None:
    with connect(warehouse, autocommit=True) as connection:
        execute(
            connection,
            "update ops.watermarks set value = (select jsonb_set(value::jsonb, '{tables}',"
            " (select jsonb_object_agg(k, v - 'shape') from jsonb_each(value::jsonb -> 'tables') as t (k, v)))::text)"
            " where table_name = '@capture'",
        )
    with opened(warehouse, copied.source) as capturing:
        capturing.once()
    copied.sql("alter table pages add region text default 'EU'")
    with pytest.raises(LostSlotError, match="region"), opened(warehouse, copied.source) as capturing:
        capturing.once()


def with_pages(source: Source, table: Table) -> Source:
    return replace(source, tables=tuple(table if t.name == "pages" else t for t in source.tables))


# -- partitions ----------------------------------------------------------------------------------------------

PARTITIONS = (
    form("create table days_3 partition of days for values from ('2024-03-01') to ('2024-04-01')"),
    form("create table days_4 (like days)", "alter table days attach partition days_4 default"),
    form(
        "create table days_5 (like days)",
        "insert into days_5 values ('2024-05-05', 5)",
        "alter table days attach partition days_5 for values from ('2024-05-01') to ('2024-06-01')",
        said="partition days_5 was attached with rows",
    ),
    form("truncate days_1", said="a partition was detached, dropped, truncated or rewritten"),
    form("alter table days detach partition days_2", said="a partition was detached, dropped, truncated or rewritten"),
    form("drop table days_1", said="a partition was detached, dropped, truncated or rewritten"),
    form("truncate days", said="a partition was detached, dropped, truncated or rewritten"),
)


def test_partitions_that_come_and_go(warehouse: Settings, shop: Shop) -> None:
    for case in PARTITIONS:
        source = shop.days()
        shop.sql("insert into days values ('2024-01-05', 1), ('2024-02-05', 2)")
        with opened(warehouse, source) as capturing:
            capturing.once(anew=True)
            shop.sql(*case.statements)
            if case.said:
                with pytest.raises(LostSlotError, match=case.said):
                    capturing.once()
                continue
            if "days_3" in case.statements[0]:
                shop.sql("insert into days values ('2024-03-05', 3)")
            capturing.once()
        with connect(warehouse) as connection:
            copy = query(connection, "select day, n from raw_shop.days order by n")
        assert copy == shop.rows("select day, n from days order by n"), case
