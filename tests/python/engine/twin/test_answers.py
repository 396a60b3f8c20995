"""Queries: the twin answers where the answer is the same, with the rights of who asks, and of what is shown only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.cli import sql as command
from granary.twin import able, answers, asking, duck
from granary.twin.verify import verify
from granary.warehouse import publishes
from granary.warehouse.errors import GranaryError, UsageError
from tests.python.support.rides import Rides, node, week

if TYPE_CHECKING:
    from tests.python.engine.twin.conftest import Sync

QUERIES = (
    "select count(*) from marts.rentals",
    "select business_date, sum(bikes) as bikes, sum(price), min(rider), max(rental) from marts.rentals"
    " group by business_date order by 2 desc, 1",
    "select * from marts.rentals where business_date >= date '2021-01-31' order by rental",
    "select s.station, s.name, count(r.rental) from marts.stations s left join marts.rentals r on r.bikes = s.station"
    " group by s.station, s.name order by s.station desc, s.name",
    "with days as (select business_date, sum(price) as price from marts.rentals group by business_date)"
    " select extract(year from business_date), count(*), max(price) from days group by 1 order by 1",
    "select rental, row_number() over (partition by bikes order by price desc) from marts.rentals order by rental",
    "select coalesce(dock, 'none') || '!' as dock, count(distinct business_date) from marts.docks"
    " group by 1 order by 1",
    "select rental from marts.rentals where rider like 'mask%' or price between 1 and 5"
    " union all select station from marts.stations order by 1",
    "select sum(price * bikes), sum(bikes) % 4, -max(price) from marts.rentals; ",
    "select station from marts.stations where not exists (select 1 from marts.docks where dock = name) order by 1",
)
UNABLE = (
    ("select avg(price) from marts.rentals", "avg is not known to be the same"),
    ("select bikes / 2 from marts.rentals", "/ is not known to be the same"),
    ("select rider from marts.rentals where rider ~ 'a'", "regexp_full_match is not known to be the same"),
    ("select round(price, 1) from marts.rentals", "round is not known to be the same"),
    ("select price::int from marts.rentals", "a cast to integer is not known to be the same"),
    ("select rider from marts.rentals where rider like 'a\\_%'", "this constant is not known to be the same"),
    ("select count(*) from marts.docks tablesample system (50)", "base_table is not known to be the same"),
    ("select date_trunc('week', business_date) from marts.rentals", "date_trunc is not known to be the same"),
    ("select date_trunc('month', business_date) from marts.rentals", "date_trunc is timestamp with time zone"),
    ("select now()", "now is not known to be the same"),
    ("select 1 from pg_catalog.pg_class", "pg_class is no mart"),
)


def texts(rides: Rides, query: str, chosen: asking.Route, role: str) -> tuple[object, ...]:
    names, kinds, rows = answers.texts(rides.settings, query, chosen, role)
    return tuple(names), tuple(kinds), list(rows)


def test_answers_are_the_same(rides: Rides, follow: Sync) -> None:
    week(rides)
    follow()
    for role in ("analyst", "analyst_pii"):
        for query in map(answers.one_query, QUERIES):
            chosen = asking.route(rides.settings, query, role, worth=0)
            assert (chosen.engine, chosen.why) == ("twin", "publish 5"), query
            by_postgres = texts(rides, query, asking.Route("postgres", ""), role)
            assert texts(rides, query, chosen, role) == by_postgres
            assert answers.read(rides.settings, query, role=role, worth=0) == answers.read(
                rides.settings, query, role=role, worth=float("inf")
            )
    riders = [
        answers.read(rides.settings, "select rider from marts.rentals order by 1", role=role, worth=0)[0].to_pylist()
        for role in ("analyst", "analyst_pii")
    ]
    assert riders == [["masked"] * 3, ["Ada", "Bo", "Cy"]]
    assert answers.read(rides.settings, "stations", worth=0).column_names == ["station", "name"]


def test_what_may_mean_something_else_goes_to_postgres(rides: Rides, follow: Sync) -> None:
    follow()
    for query, why in UNABLE:
        chosen = asking.route(rides.settings, query, worth=0)
        assert chosen.engine == "postgres", query
        assert chosen.why.startswith(why), (query, chosen.why)


def test_a_cheap_query_and_a_twin_that_is_behind_go_to_postgres(rides: Rides, follow: Sync) -> None:
    query = "select count(*) from marts.rentals"
    assert asking.route(rides.settings, query, worth=0).why == "it does not have publish 1 yet"
    follow()
    assert "from 100,000 on the twin is quicker" in asking.route(rides.settings, query).why
    rides.run("update build.rentals set bikes = 4")
    rides.publish()
    assert asking.route(rides.settings, query, worth=0).why == "it does not have publish 2 yet"
    follow()
    publishes.undo(rides.settings, 1)
    assert asking.route(rides.settings, query, worth=0).why == "publish 1"  # which it has had all the time
    assert asking.route(rides.settings, query, "transformer", worth=0).why == "the twin does not answer to transformer"


def test_rights_are_those_of_the_server(rides: Rides, follow: Sync) -> None:
    rides.marts["stations"]["grants"] = {}
    rides.publish()
    rides.run("revoke select on marts.stations from analyst")
    follow()
    with pytest.raises(GranaryError, match="permission denied"):
        asking.route(rides.settings, "select * from marts.stations", worth=0)
    chosen = asking.forced(rides.settings, "select * from marts.stations", "analyst", None)
    with pytest.raises(GranaryError, match="stations does not exist"):
        texts(rides, "", chosen, "analyst")


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_text('/etc/hosts')",
        "copy (select 1) to '/tmp/granary-twin.csv'",
        "attach '/tmp/granary-twin.db' as other",
        "select * from postgres_query('__ducklake_metadata_twin', 'select * from twin_personal.ducklake_table')",
        "delete from twin.marts.rentals",
        "set enable_external_access = true",
        "install httpfs",
    ],
)
def test_the_twin_shows_what_it_is_for_and_nothing_else(rides: Rides, follow: Sync, query: str) -> None:
    follow()
    chosen = asking.forced(rides.settings, query, "analyst", None)
    with (
        pytest.raises(GranaryError, match="the twin cannot do it"),
        asking.answering(rides.settings, chosen, "analyst"),
    ):
        pass


def test_statements_that_are_no_query_are_refused(rides: Rides) -> None:
    for statement in ("delete from marts.rentals", "select 1; select 2", "selec 1"):
        with pytest.raises((GranaryError, UsageError)):
            asking.route(rides.settings, statement)
    with pytest.raises(UsageError, match="there is no query"):
        answers.one_query(" ; ")


def test_every_type_comes_back_as_it_was_or_the_mart_is_left_out(rides: Rides, follow: Sync) -> None:
    rides.run(
        "create type build.size as enum ('small', 'large')",
        "create table build.types (k integer not null, b boolean, i2 smallint, i8 bigint, f4 real,"
        " f8 double precision, n numeric(38, 10), whole numeric(20), any_number numeric, t text, v varchar(9),"
        " c character(5), d date, ts timestamp, tz timestamptz, tm time, u uuid, by bytea, jb jsonb, a integer[],"
        " ta text[], e build.size, r int4range, iv interval, ip inet, ttz timetz)",
        "insert into build.types values (1, true, -32768, 9223372036854775807, 1.5e-30, 1e300,"
        " 1234567890123456789012345678.0123456789, 99999999999999999999, 1e-90, E'line\\n\"quoted\", é', 'x', 'ab',"
        " '2024-02-29', '2024-02-29 23:59:59.999999', '2024-02-29 23:59:59.999999+02', '24:00',"
        " '11111111-2222-3333-4444-555555555555', '\\x00ff10', '{\"b\": [1, null]}', '{1,null,3}',"
        " '{\"a,b\",null}', 'large', '[1,5)', '1 mon 2 days', '::1', '10:00+02')",
        "insert into build.types (k, f4, f8, any_number, d, ts, tz, t, by) values"
        " (2, 'NaN', '-Infinity', 'NaN', 'infinity', '-infinity', 'infinity', '', ''),"
        " (3, '-0', 'NaN', 'Infinity', '4713-01-01 BC', '4713-01-01 BC', '0044-03-15 12:00+00 BC', '\\N', null),"
        " (4, null, null, null, '5874897-12-31', '0001-01-01', null, null, null)",
        "create table build.broken (k integer not null, price numeric(5, 2))",
        "insert into build.broken values (1, 'NaN')",
        "create table build.late (k integer not null, at timestamp)",
        "insert into build.late values (1, '294276-12-31')",
    )
    for name in ("types", "broken", "late"):
        rides.marts[name] = node(name, ("k",))
    rides.built(marts=("types", "broken", "late"))
    rides.publish()
    words = "{} has values that Parquet cannot hold, such as NaN in a number"
    assert follow().refused == {"broken": words.format("price"), "late": words.format("at")}
    (found,) = [one for one in verify(rides.settings) if one.mart == "types"]
    assert found.is_same, found
    query = "select b, i2, i8, n, whole, t, v, d, ts, tz, u from marts.types order by k"
    chosen = asking.route(rides.settings, query, worth=0)
    assert chosen.engine == "twin"
    (_, _, ours), (_, _, theirs) = (
        texts(rides, query, one, "analyst") for one in (chosen, asking.Route("postgres", ""))
    )
    assert ours[0] == theirs[0]  # type: ignore[index]
    assert asking.route(rides.settings, "select jb from marts.types", worth=0).engine == "postgres"
    assert asking.route(rides.settings, "select price from marts.broken", worth=0).why == "broken is not in the twin"


def test_the_command_prints_all_forms(
    rides: Rides, follow: Sync, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    follow()
    monkeypatch.setattr(command, "existing", lambda: rides.settings)
    query = "select rental, rider, price, business_date from marts.rentals where rental < 3 order by rental;"
    printed = {}
    for engine in ("twin", "postgres"):
        for form in ("table", "csv", "json"):
            command.sql(query, twin=engine == "twin", postgres=engine == "postgres", form=form)  # type: ignore[arg-type]
            out, err = capsys.readouterr()
            assert err.startswith(f"granary: {engine} answers (")
            printed[engine, form] = out
    assert (
        printed["twin", "csv"]
        == printed["postgres", "csv"]
        == ("rental,rider,price,business_date\n1,masked,4.50,2021-01-05\n2,masked,9.00,2021-01-31\n")
    )
    assert printed["twin", "table"] == printed["postgres", "table"]
    assert json.loads(printed["twin", "json"]) == json.loads(printed["postgres", "json"])
    assert json.loads(printed["twin", "json"])[0] == {
        "rental": 1, "rider": "masked", "price": 4.5, "business_date": "2021-01-05"
    }  # fmt: skip


def test_an_earlier_publish_is_asked_for_by_its_number(
    rides: Rides, follow: Sync, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    week(rides)
    follow()
    monkeypatch.setattr(command, "existing", lambda: rides.settings)
    for publish, count in (("1", 3), ("3", 2), ("5", 3)):
        command.sql("select count(*) from marts.rentals", at=publish, form="csv")
        out, err = capsys.readouterr()
        assert (out.splitlines()[1], err) == (str(count), f"granary: twin answers (publish {publish})\n")
    with pytest.raises(GranaryError, match="publish 99 is not kept"):
        command.sql("select 1", at="99")
    with pytest.raises(UsageError, match="exclude each other"):
        command.sql("select 1", twin=True, postgres=True)
    with pytest.raises(UsageError, match="--at is answered by the twin"):
        command.sql("select 1", at="1", postgres=True)


def test_the_packages_that_are_missing_are_named(rides: Rides, follow: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duck, "is_installed", lambda: False)
    with pytest.raises(GranaryError, match=r"pip install 'granary-elt\[lake\]'"):
        follow()
    assert asking.route(rides.settings, "select count(*) from marts.rentals", worth=0).why == "it is not installed"


@pytest.mark.parametrize(
    ("kind", "found", "target"),
    [
        ("bigint", "HUGEINT", "bigint"),
        ("numeric", "DECIMAL(38,2)", "DECIMAL(38,2)"),
        ("numeric", "HUGEINT", "DECIMAL(38,0)"),
        ("numeric", "DOUBLE", None),
        ("numeric(12,2)", "DECIMAL(12,2)", "DECIMAL(12,2)"),
        ("numeric(12,2)", "DECIMAL(14,4)", None),
        ("double precision", "DOUBLE", None),
        ("timestamp(3) without time zone", "TIMESTAMP", "TIMESTAMP"),
        ("text", "VARCHAR", "VARCHAR"),
        ("jsonb", "VARCHAR", None),
    ],
)
def test_a_column_of_an_answer_has_postgres_type_or_none(kind: str, found: str, target: str | None) -> None:
    assert able.cast(kind, found) == target


def test_parquet_is_arrow_of_the_same_values(rides: Rides, follow: Sync) -> None:
    follow()
    query = "select rental, sum(price) as price from marts.rentals group by rental order by rental"
    chosen = asking.route(rides.settings, query, worth=0)
    sink = pa.BufferOutputStream()
    pq.write_table(answers.arrow(rides.settings, chosen, "analyst"), sink)
    assert pq.read_table(pa.BufferReader(sink.getvalue())).to_pylist() == [
        {"rental": 1, "price": 4.5}, {"rental": 2, "price": 9.0}, {"rental": 3, "price": 4.5}
    ]  # fmt: skip
