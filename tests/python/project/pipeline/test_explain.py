"""From rows of marts to files and lines: on the slice, against the source files themselves."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from granary.cli.main import app
from granary.dbt import manifest as dbt_manifest
from granary.dbt.manifest_nodes import is_mart
from granary.explain import links, trace
from granary.explain.condition import ConditionError
from granary.explain.links import find_mart
from granary.explain.origins import ranges
from granary.explain.trace import Explanation, explain
from granary.warehouse import provenance
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

    from granary.explain.origins import Origin
    from tests.python.project.pipeline.conftest import Pipeline

NEW_YORK, UTC = ZoneInfo("America/New_York"), ZoneInfo("UTC")
LAST_DAY = date(2017, 6, 1)


@pytest.fixture(scope="module")
def shop(pipeline: Pipeline) -> Pipeline:
    """Return the slice after five months: the first redemption of household 1 is on 2017-05-17."""
    pipeline.day(LAST_DAY)
    return pipeline


def landing(shop: Pipeline) -> Path:
    return shop.settings.home / "demo" / "landing" / "pos" / "transactions"


def receipts(shop: Pipeline) -> dict[tuple[date, int], list[tuple[str, int, Decimal]]]:
    """Read the tills' files themselves: by New York date and store, the file, the line's number and its value."""
    found: dict[tuple[date, int], list[tuple[str, int, Decimal]]] = defaultdict(list)
    for path in sorted(landing(shop).glob("*.parquet")):
        for number, line in enumerate(pq.read_table(path).to_pylist(), start=1):
            day = line["transaction_timestamp"].replace(tzinfo=UTC).astimezone(NEW_YORK).date()
            value = Decimal(f"{line['sales_value']:.2f}")
            found[day, line["store_id"]].append((f"transactions/{path.name}", number, value))
    return found


def busiest(shop: Pipeline) -> tuple[date, int]:
    return max(receipts(shop).items(), key=lambda item: (len(item[1]), item[0]))[0]


def where(key: tuple[date, int]) -> str:
    return f"business_date = '{key[0]}' and store_id = {key[1]}"


def numbers(text: str) -> list[int]:
    """Return 1-3, 7 as [1, 2, 3, 7]."""
    bounds = [[int(part) for part in one.split("-")] for one in text.split(", ")]
    return [number for bound in bounds for number in range(bound[0], bound[-1] + 1)]


def origin(found: Explanation, name: str) -> Origin:
    return next(one for one in found.origins if one.relation == name)


def places(found: Explanation, name: str = "raw_pos.transactions") -> list[tuple[str, int]]:
    return [(one.load.unit, number) for one in origin(found, name).loads for number in numbers(one.rows)]


def test_number_leads_to_its_file_and_lines(shop: Pipeline) -> None:
    key = busiest(shop)
    lines = receipts(shop)[key]
    assert len(lines) > 10
    found = explain(shop.settings, "marts.daily_sales", where(key), column="sales_value")
    assert found.matched == 1
    assert found.rows[0]["sales_value"] == sum(value for *_, value in lines)
    assert places(found) == [(unit, number) for unit, number, _ in lines]
    assert [(one.relation, one.stated, one.recomputed, one.differing) for one in found.checks] == [
        (relation, found.rows[0]["sales_value"], found.rows[0]["sales_value"], 0)
        for relation in ("marts.daily_sales", "marts.fct_baskets", "marts.fct_sales")
    ]
    assert [(node.relation, node.rows) for node in found.path[2:]] == [
        ("marts.fct_sales", len(lines)),
        ("staging.stg_pos__transactions", len(lines)),
        ("raw_pos.transactions", len(lines)),
    ]
    assert found.column_path[-1] == "staging.stg_pos__transactions.sales_value from raw_pos.transactions.sales_value"
    assert (found.differences, found.replaced, found.refused) == ((), (), ())
    # sales_value owes nothing to the catalogue; the units, which leave fuel out, do.
    assert [one.relation for one in found.origins] == ["raw_pos.transactions"]
    every = explain(shop.settings, "daily_sales", where(key))
    assert [one.relation for one in every.origins] == ["raw_pos.transactions", "raw_crm.products"]


def test_month_leads_to_each_of_its_files(shop: Pipeline) -> None:
    lines = [line for (day, _), lines in receipts(shop).items() if day.month == 3 for line in lines]
    march = "month_start_date = '2017-03-01'"
    found = explain(shop.settings, "marts.monthly_sales", march, column="sales_value", limit=50)
    assert sorted(places(found)) == sorted((unit, number) for unit, number, _ in lines)
    assert found.rows[0]["sales_value"] == sum(value for *_, value in lines)
    few = explain(shop.settings, "marts.monthly_sales", march, column="sales_value", limit=2)
    assert (len(few.origins[0].loads), few.origins[0].load_count) == (2, len({unit for unit, *_ in lines}))
    assert few.origins[0].used == len(lines)


def test_every_kind_of_source(shop: Pipeline) -> None:
    event = explain(shop.settings, "marts.fct_coupon_redemptions", "household_id = 1 and coupon_upc = 51700010076")
    ((unit, number),) = places(event, "raw_events.coupon_redemptions")
    assert unit == "coupon_redemptions/2017-05-17.jsonl"
    file = shop.settings.home / "demo" / "landing" / "events" / unit
    line = json.loads(file.read_text().splitlines()[number - 1])
    assert line["event_id"] == event.rows[0]["redemption_id"]

    campaign = event.rows[0]["campaign_id"]
    contact = explain(
        shop.settings,
        "marts.fct_campaign_contacts",
        f"household_id = 1 and campaign_id = {campaign}",
        column="end_date",
    )
    assert origin(contact, "raw_marketing.recipients").loads[0].load.unit == f"/v1/campaigns/{campaign}/recipients"
    assert origin(contact, "raw_marketing.campaigns").loads[0].load.unit.startswith("/v1/campaigns")

    household = explain(shop.settings, "marts.dim_household", "household_id = 1")
    assert origin(household, "raw_crm.households").loads[0].load.unit.startswith("public.households")
    assert [node.relation for node in household.path[1:3]] == [
        "intermediate.int_crm__household_versions",
        "snapshots.snap_crm__households",
    ]
    assert "age_range" in household.hidden
    assert not set(household.hidden) & set(household.rows[0])

    calendar = explain(shop.settings, "marts.dim_date", "date_day = '2017-01-01'")
    assert calendar.origins == ()
    assert calendar.notes == ("It is made from the calendar between two vars of the project; no source says it.",)


def marts(shop: Pipeline) -> list[str]:
    manifest = dbt_manifest.load(dbt_manifest.prepare(shop.settings))
    models = (node for node in manifest["nodes"].values() if node["resource_type"] == "model")
    return sorted(node["name"] for node in models if is_mart(node))


def test_all_rows_of_all_marts_are_explained(shop: Pipeline) -> None:
    """What marts declare is true: each declared number of each row is what the rows that are found for it give."""
    manifest = dbt_manifest.load(dbt_manifest.prepare(shop.settings))
    computed = 0
    for name in marts(shop):
        mart = find_mart(manifest, name)
        assert bool(mart.links) != bool(mart.reason), name
        if not shop.query(f"select 1 from marts.{name} limit 1"):
            continue
        aside = [one for link in mart.links if link.columns for one in link.numbers]
        for column in (None, *aside):
            found = explain(shop.settings, name, "1 = 1", column=column, limit=1)
            assert found.differences == (), name
            assert bool(found.origins) == bool(mart.links), name
            computed += sum(one.rows for one in found.checks)
    assert computed > 10_000


def test_changes_behind_the_ledger_are_reported(shop: Pipeline) -> None:
    key = busiest(shop)
    unit, number, value = receipts(shop)[key][0]
    (load,) = explain(shop.settings, "daily_sales", where(key), column="sales_value").origins[0].loads
    line = f"_load_id = {load.load.load_id} and _row = {number}"
    total = sum(value for *_, value in receipts(shop)[key])

    def differences(change: str, undo: str) -> tuple[str, ...]:
        shop.execute("create table public.kept as select * from raw_pos.transactions where " + line, change)
        try:
            return explain(shop.settings, "daily_sales", where(key), column="sales_value").differences
        finally:
            shop.execute(undo, "insert into raw_pos.transactions select * from public.kept", "drop table public.kept")

    drop = f"delete from raw_pos.transactions where {line}"
    rows = len(receipts(shop)[key])
    sales = f"marts.fct_sales.sales_value is {total}, and staging.stg_pos__transactions gives"
    assert differences(f"update raw_pos.transactions set sales_value = sales_value + 1.5 where {line}", drop) == (
        f"{sales} {total + Decimal('1.50')}: +1.50 (1 of {rows} rows differ)",
    )
    in_file = load.load.rows_loaded
    ledger = f"rows of load {load.load.load_id} ({unit}), and the ledger says {in_file} were loaded"
    assert differences(drop, drop) == (
        f"{sales} {total - value}: -{value} (1 of {rows} rows differ)",
        f"raw_pos.transactions holds {in_file - 1} {ledger}",
    )
    assert differences(f"insert into raw_pos.transactions select * from raw_pos.transactions where {line}", drop) == (
        f"{sales} {total + value}: +{value} (1 of {rows} rows differ)",
        f"raw_pos.transactions holds {in_file + 1} {ledger}",
    )
    shop.execute(f"update marts.fct_baskets set sales_value = sales_value - 2 where {where(key)}")
    found = explain(shop.settings, "daily_sales", where(key), column="sales_value")
    assert found.differences[0].startswith(f"marts.daily_sales.sales_value is {total}, and marts.fct_baskets gives")
    done = CliRunner().invoke(app, ["explain", "daily_sales", "--where", where(key)])
    assert isinstance(done.exception, GranaryError)
    assert "  DIFFERS: marts.daily_sales.sales_value is" in done.stdout
    shop.execute(f"update marts.fct_baskets set sales_value = sales_value + 2 where {where(key)}")
    assert explain(shop.settings, "daily_sales", where(key)).differences == ()


def test_corrected_and_refused(shop: Pipeline) -> None:
    """A file comes anew: its first line is gone, and two lines are refused, one of them of the store in question."""
    key = busiest(shop)
    unit = receipts(shop)[key][0][0]
    path = landing(shop) / unit.rpartition("/")[2]
    whole = pq.read_table(path)
    (before,) = explain(shop.settings, "daily_sales", where(key), column="sales_value").origins[0].loads
    bad = whole.slice(0, 1)
    for name, value in (("quantity", -1), ("basket_id", 1)):
        bad = bad.set_column(bad.schema.get_field_index(name), name, pa.array([value], pa.int64()))
    stores = [
        bad.set_column(bad.schema.get_field_index("store_id"), "store_id", pa.array([store], pa.int64()))
        for store in (key[1], 99999)
    ]
    # Enough good lines (of another store) that two bad ones are no broken contract.
    filling = pa.concat_tables([stores[1]] * 400)
    for name, values in (("quantity", [1] * 400), ("basket_id", list(range(10_000, 10_400)))):
        filling = filling.set_column(filling.schema.get_field_index(name), name, pa.array(values, pa.int64()))
    pq.write_table(pa.concat_tables([whole.slice(1), *stores, filling]), path)
    shop.load("pos.transactions")

    stale = explain(shop.settings, "daily_sales", where(key), column="sales_value")
    assert any(f"load {before.load.load_id} of {unit} was replaced by load" in words for words in stale.differences)

    shop.dbt("build", "--exclude-resource-type", "test", "unit_test")
    lines = [line for line in receipts(shop)[key] if line[1] != whole.num_rows]
    found = explain(shop.settings, "daily_sales", where(key))
    assert places(found) == [(unit, number) for unit, number, _ in lines]
    assert found.rows[0]["sales_value"] == sum(value for *_, value in lines)
    (now,) = origin(found, "raw_pos.transactions").loads
    assert [(one.load_id, one.superseded_by, one.rows_loaded, one.unit) for one in found.replaced] == [
        (before.load.load_id, now.load.load_id, whole.num_rows, unit)
    ]
    assert [(one.row, one.column, one.reason, one.status, one.concerns) for one in found.refused] == [
        (whole.num_rows, "quantity", "is below 0", "open", True),
        (whole.num_rows + 1, "quantity", "is below 0", "open", False),
    ]
    assert found.differences == ()

    done = CliRunner().invoke(app, ["explain", "marts.daily_sales", "--where", where(key)])
    assert done.exit_code == 0, done.output
    assert f"  {unit}: load {before.load.load_id} with {whole.num_rows} rows, until load" in done.stdout
    assert f"{unit}, row {whole.num_rows}: quantity: is below 0; it belongs to these rows" in done.stdout

    # A delivery that cannot be read says nothing of its rows, and is shown all the same; also if all that leads to it
    # is its name.
    path.write_bytes(b"no parquet")
    shop.load("pos.transactions")
    (broken,) = [one for one in explain(shop.settings, "daily_sales", where(key)).refused if one.row == 0]
    assert (broken.unit, broken.status, broken.concerns) == (unit, "open", None)
    with connect(shop.settings) as connection:
        named = provenance.refused(connection, "pos", "transactions", [], [str(key[0])], {})
        assert {(one.unit, one.concerns) for one in named} == {(unit, None)}
        assert provenance.refused(connection, "pos", "transactions", [], ["2016-01-01"], {}) == []


HOSTILE = (
    "1=1; drop table marts.daily_sales",
    "store_id in (select household_id from raw_crm.households)",
    "exists (select 1 from ops.load_audit)",
    "1=1) or (select true",
    "1=1 union select 1",
    "set_config('role', 'granary', false) = 'granary'",
    "pg_read_file('/etc/passwd') is null",
    "pg_sleep(100) is null",
    "table_to_xml('raw_crm.households'::regclass, true, true, '') is null",
    "store_id = $1",
    "count(*) > 1",
    "no_such_column = 1",
    "fct_sales.store_id = 1",
    "store_id = 'many'",
    "store_id",
    "store_id = ",
    "-- nothing",
    "",
    "store_id = 1 or " * 1000 + "true",
    "(" * 900 + "true" + ")" * 900,
    "[" * 1900,
)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:40] or "empty")
def test_condition_is_one_expression_on_the_mart(shop: Pipeline, text: str) -> None:
    with pytest.raises(ConditionError, match=r"^--where cannot be used: "):
        explain(shop.settings, "marts.daily_sales", text)
    done = CliRunner().invoke(app, ["explain", "marts.daily_sales", "--where", text])
    assert done.exit_code == 2


def test_condition_runs_with_few_rights(shop: Pipeline) -> None:
    assert explain(shop.settings, "daily_sales", "current_user = 'transformer'").matched > 0
    with pytest.raises(GranaryError, match=r"no row of marts\.daily_sales meets the condition"):
        explain(shop.settings, "daily_sales", "session_user <> 'transformer'")


def test_condition_could_not_write_even_if_it_were_not_checked(shop: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "condition", lambda *_: "lo_create(0) is not null")
    with pytest.raises(ConditionError, match="in a read-only transaction"):
        explain(shop.settings, "daily_sales", "true")
    monkeypatch.setattr(trace, "condition", lambda *_: "pg_read_file('/etc/passwd') is not null")
    with pytest.raises(ConditionError, match="permission denied for function pg_read_file"):
        explain(shop.settings, "daily_sales", "true")
    monkeypatch.setattr(trace, "condition", lambda *_: "pg_sleep(5) is not null")
    monkeypatch.setattr(trace, "SECONDS", 1)
    with pytest.raises(GranaryError, match="tracing these rows takes longer than 1 s"):
        explain(shop.settings, "daily_sales", "true")


def test_declarations_that_say_nothing_are_refused() -> None:
    with pytest.raises(GranaryError, match="m: 'matches' says nothing"):
        links.link("m", {"model": "fct_sales", "matches": ["store_id"]})
    with pytest.raises(GranaryError, match=r"m: dim_date\.year is of no joined model"):
        links.link("m", {"model": "fct_sales", "match": {"year": "dim_date.year"}})
    with pytest.raises(GranaryError, match=r"m: 'sum\(' is not SQL"):
        links.link("m", {"model": "fct_sales", "numbers": {"sales_value": "sum("}})
    link = links.link(
        "m", {"model": "fct_sales", "match": {"month": "date_trunc('month', day)"}, "where": "a < this.b"}
    )
    assert link.needs(frozenset({"month"})) == {"day", "a", "month"}


def test_row_numbers_are_shown_as_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([7]) == "7"
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


@pytest.mark.parametrize(
    "name", ['marts."daily_sales"', "daily_sales; drop table x", "pg_class", "stg_pos__transactions"]
)
def test_only_marts_are_explained(shop: Pipeline, name: str) -> None:
    with pytest.raises(ConditionError, match=r"^there is no mart "):
        explain(shop.settings, name, "true")


def test_limits_are_said(shop: Pipeline) -> None:
    done = CliRunner().invoke(app, ["explain", "marts.fct_baskets", "--where", "true", "--limit", "2"])
    rows = shop.query("select count(*) from marts.fct_baskets")[0][0]
    loads = shop.query("select count(distinct load_id) from marts.fct_sales")[0][0]
    assert done.exit_code == 0, done.output
    assert f"marts.fct_baskets where true: {rows} rows, of which 2" in done.stdout
    assert f"  and {loads - 2} more loads: see --limit" in done.stdout
    told: Any = json.loads(
        CliRunner().invoke(app, ["explain", "fct_baskets", "--where", "true", "--limit", "1", "--json"]).stdout
    )
    assert (told["matched"], len(told["rows"]), told["differences"]) == (rows, 1, [])
    wrong = CliRunner().invoke(app, ["explain", "fct_baskets", "--where", "true", "--column", "nothing"])
    assert wrong.exit_code == 2
