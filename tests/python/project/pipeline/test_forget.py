"""A household is forgotten: nothing of it is left anywhere, it stays out, and every total is explained.

The numbers are counted from the files of the slice (households 1 to 7, until 31 May 2017, New York dates). Household 1
has 393 lines in 18 baskets on 16 days for 965.77 (January 198.15, February 193.00, March 166.37, April 186.90, May
221.35), is in 7 campaigns' lists, and redeemed three coupons, all in May. All seven have 1,534 lines for 4,515.09.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo import retailer
from granary.cli.health import look as health
from granary.dagster.publish_checks import RESTATED, closed_months
from granary.load.api import find, load_table
from granary.load.append import append
from granary.privacy import forget, locations
from granary.privacy.filter import BLANK
from granary.privacy.identity import identify
from granary.privacy.suppression_list import entries, folder
from granary.sources.spec import Capture, Column, Table
from granary.sources.units import SourceBatch, Unit
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import find_binaries
from granary.warehouse.project import PROJECT
from granary.warehouse.writer import LoadTransaction
from tests.python.support import warm
from tests.python.support.command import GRANARY, granary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.privacy.identity import Identity
    from granary.warehouse.settings import Settings
    from tests.python.project.pipeline.conftest import Pipeline

UNTIL = date(2017, 5, 31)
MONTHS = {"01": "198.15", "02": "193.00", "03": "166.37", "04": "186.90", "05": "221.35"}
ALL, ONE = Decimal("4515.09"), Decimal("965.77")
SALES = "select count(*), sum(sales_value) from marts.fct_sales"
TABLES = (
    "select n.nspname::text, c.relname::text from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace"
    " where c.relkind in ('r', 'm', 'p') and n.nspname not in ('pg_catalog', 'information_schema') order by 1, 2"
)


def holders(settings: Settings, household: str) -> list[str]:
    """Return every table of the database that has the household in an id column or in a field of a payload.

    This is a second way to look, which shares nothing with how the household is erased: each row of each table as JSON.
    """
    found = []
    with connect(settings) as connection:
        for schema, table in query(connection, TABLES):
            rows = query(
                connection,
                f'select to_jsonb(t)::text from "{schema}"."{table}" as t where to_jsonb(t)::text ~ $1',
                f"(household|entity).*{household}",
            )
            if any(_holds(json.loads(row), household) for (row,) in rows):
                found.append(f"{schema}.{table}")
    return found


def _holds(value: Any, household: str, name: str = "") -> bool:
    if isinstance(value, dict):
        member = value.get("entity") == "household" and str(value.get("entity_id")) == household
        profile = value.get("name") == "household_id" and any(
            str(part).removesuffix(".0") == household
            for part in (value.get("minimum"), value.get("maximum"), *(text for text, _ in value.get("top", ())))
        )
        return member or profile or any(_holds(part, household, key) for key, part in value.items())
    if isinstance(value, list):
        return any(_holds(part, household, name) for part in value)
    if isinstance(value, str) and value[:1] in ("{", "["):
        return _holds(json.loads(value), household, name)
    return name == "household_id" and str(value).lstrip("0") == household


def household(number: str) -> Identity:
    return identify("household", number)


def nothing(settings: Settings) -> None:
    """Build nothing."""


def state(pipeline: Pipeline) -> tuple[Any, ...]:
    """Return what an erasure changes, apart from marts and times."""
    tables = ("raw_pos.transactions", "raw_crm.households", "raw_marketing.recipients", "raw_events.coupon_redemptions")
    tables += ("snapshots.snap_crm__households",)
    tables += ("intermediate.int_sales__unknown_members where entity = 'household'",)  # the others follow when built
    counts = [pipeline.query(f"select count(*) from {name}")[0][0] for name in tables]
    ledger = "select sum(rows_read), sum(rows_loaded), sum(rows_quarantined), sum(rows_forgotten) from ops.load_audit"
    gone = "select relation, business_month, row_count, measures::text from ops.erased_totals order by 1, 2"
    taken = "select source, table_name, erased_load_id, row_count from ops.erased_rows order by 1, 2, 3"
    refused = "select quarantine_id, payload::text from ops.quarantine order by 1"
    return (*counts, *(pipeline.query(sql) for sql in (ledger, gone, taken, refused)))


def run(pipeline: Pipeline, *arguments: str, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, to be killed at a named point."""
    environment = pipeline.settings.environment() | {"GRANARY_KILL_AT": kill_at}
    return warm.run(GRANARY, "forget", *arguments, folder=PROJECT, environment=environment)


def dump(settings: Settings, path: Path) -> Path:
    """Dump the database as text, as a backup would."""
    with path.open("w") as handle:
        subprocess.run([str(find_binaries() / "bin" / "pg_dump"), settings.uri()], stdout=handle, check=True)
    return path


@pytest.fixture(scope="module", autouse=True)
def beginning(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Play until the end of May, leave household 1 wherever a household can be, and return a dump of all that."""
    retailer.advance(pipeline.settings, UNTIL)
    pipeline.load()
    source, table = find("pos", "transactions")
    columns = {name: [1, 1] for name in table.schema.names} | {
        "household_id": [1, 2],
        "quantity": [-1, -1],
        "sales_value": [1.0, 1.0],
        "retail_disc": [0.0, 0.0],
        "coupon_disc": [0.0, 0.0],
        "coupon_match_disc": [0.0, 0.0],
        "transaction_timestamp": [None, None],
    }
    with LoadTransaction(pipeline.settings, "pos") as tx:
        refused = SourceBatch(pa.RecordBatch.from_pydict(columns, schema=None))
        assert append(tx, source, table, Unit("refused"), [refused]).rows_quarantined == 2
    pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test")
    pipeline.execute(
        "insert into intermediate.int_sales__unknown_members select load_id, entity, 1, 1"
        " from (select max(load_id) as load_id from ops.load_audit) as l,"
        " unnest(array['household', 'product']) as entity",
        "insert into ops.profiles (relation, row_count, profile) values ('raw_pos.transactions', 1, '"
        + json.dumps(
            {
                "columns": [
                    {"name": name, "minimum": "1", "maximum": "7", "percentiles": [1.0], "top": [["1", 0.5]]}
                    for name in ("household_id", "store_id")
                ]
            }
        )
        + "')",
    )
    return dump(pipeline.settings, tmp_path_factory.mktemp("dumps") / "before.sql")


def test_the_scan_finds_the_household_wherever_it_is(pipeline: Pipeline) -> None:
    found = holders(pipeline.settings, "1")
    assert {
        "intermediate.int_sales__unknown_members",
        "marts.fct_campaign_contacts",
        "marts.fct_coupon_redemptions",
        "marts.fct_sales",
        "ops.profiles",
        "ops.quarantine",
        "personal.dim_household",
        "raw_crm.households",
        "raw_events.coupon_redemptions",
        "raw_marketing.recipients",
        "raw_pos.transactions",
        "snapshots.snap_crm__households",
    } <= set(found)


def test_an_unknown_household_and_a_look_change_nothing(pipeline: Pipeline) -> None:
    before = state(pipeline)
    done = run(pipeline, "99", "--yes")
    assert (done.returncode, done.stderr) == (
        1,
        "granary: there is no such household (the warehouse); the keys are in raw_crm.households.household_id,"
        " raw_events.coupon_redemptions.household_id, raw_marketing.recipients.household_id,"
        " raw_pos.transactions.household_id\n",
    )
    for wrong in ("1 or true", "1; drop"):
        done = run(pipeline, wrong, "--yes")
        assert done.returncode == 2
        assert "the key of data subject household is a whole number" in " ".join(done.stderr.split())
        assert wrong not in done.stderr
    assert run(pipeline, "1").returncode == 2
    done = run(pipeline, "1", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    totals = {(t["relation"], t["month"]): (t["rows"], t["measures"]) for t in json.loads(done.stdout)["totals"]}
    assert totals["raw_pos.transactions", None][0] == 393
    assert totals["raw_pos.transactions", None][1]["sales_value"] == "965.77"
    assert totals["raw_events.coupon_redemptions", None][0] == 3
    assert totals["ops.quarantine", None][0] == 1
    assert {
        month[5:7]: measures["sales_value"]
        for (relation, month), (_, measures) in totals.items()
        if relation == "marts.fct_sales"
    } == MONTHS
    assert state(pipeline) == before
    assert pipeline.query("select count(*) from ops.erasures") == [(0,)]
    logged = (pipeline.settings.home / "logs" / "granary.log").read_text()
    assert '"command": ["forget", "--yes"]' in logged
    assert "1 or true" not in logged
    assert not folder(pipeline.settings).exists()


def test_killed_at_any_point_and_run_again_it_is_as_if_run_once(pipeline: Pipeline) -> None:
    before, sales = state(pipeline), pipeline.query(SALES)
    assert sales == [(1534, ALL)]
    killed = run(pipeline, "1", "--yes", "--reason", "asked", kill_at="forget-before-commit")
    assert killed.returncode == -signal.SIGKILL
    assert (state(pipeline), entries(pipeline.settings)) == (before, [])
    assert run(pipeline, "1", "--yes", "--reason", "asked", kill_at="forget-erased").returncode == -signal.SIGKILL
    erased = state(pipeline)
    assert (erased[0], pipeline.query(SALES), entries(pipeline.settings)) == (before[0] - 393, sales, [])
    assert (health(pipeline.settings).erasures, health(pipeline.settings).erasures_open) == (1, 1)
    for point in ("forget-listed", "forget-built", "forget-vacuumed"):
        assert run(pipeline, "1", "--yes", kill_at=point).returncode == -signal.SIGKILL
        assert (state(pipeline), len(entries(pipeline.settings))) == (erased, 1)
    pipeline.execute("create schema ada", "create table ada.mine as select 1 as household_id")
    done = run(pipeline, "1", "--yes")
    assert done.returncode == 0, done.stderr
    assert "They were forgotten before." in done.stdout
    assert "ada.mine still has rows of a forgotten data subject" in done.stdout
    assert state(pipeline) == erased
    assert health(pipeline.settings).erasures_open == 0
    assert "Nothing is left to do." in run(pipeline, "1", "--yes").stdout
    assert holders(pipeline.settings, "1") == ["ada.mine"]
    pipeline.execute("drop schema ada cascade")
    for source, table, rows in pipeline.query("select source, table_name, row_count from ops.raw_tables"):
        assert pipeline.query(f"select count(*) from raw_{source}.{table}") == [(rows,)], table


def test_totals_are_those_before_less_its_own(pipeline: Pipeline) -> None:
    assert pipeline.query(SALES) == [(1534 - 393, ALL - ONE)]
    assert pipeline.query("select sum(sales_value) from marts.monthly_sales") == [(ALL - ONE,)]
    assert pipeline.query("select sum(sales_value::numeric(12, 2)), count(*) from raw_pos.transactions") == [
        (ALL - ONE, 1534 - 393)
    ]
    assert pipeline.query("select count(*) from marts.fct_coupon_redemptions") == [(0,)]
    gone = dict(
        pipeline.query(
            "select to_char(business_month, 'MM'), measures ->> 'sales_value' from ops.erased_totals"
            " where relation = 'marts.fct_sales'"
        )
    )
    assert gone == MONTHS
    rows = "select relation, row_count::int from ops.erased_totals where business_month is null order by 1"
    taken = dict(pipeline.query(rows))
    assert (taken["raw_pos.transactions"], taken["raw_events.coupon_redemptions"]) == (393, 3)
    assert (taken["ops.quarantine"], taken["ops.profiles"]) == (1, 1)
    # Only the days on which it shopped were written again.
    assert pipeline.query(
        "select count(distinct business_date) from intermediate.int_sales__changed_dates where reason = 'erased'"
    ) == [(16,)]


def test_others_keep_what_is_theirs(pipeline: Pipeline) -> None:
    assert pipeline.query("select payload ->> 'household_id' from ops.quarantine") == [("2",)]
    assert pipeline.query("select entity from intermediate.int_sales__unknown_members where entity_id = 1") == [
        ("product",)
    ]
    shown = "select c ->> 'name', c ->> 'minimum' from ops.profiles, jsonb_array_elements(profile -> 'columns') as c"
    assert pipeline.query(shown) == [("household_id", None), ("store_id", "1")]


def test_closed_months_are_explained_by_the_erasure(pipeline: Pipeline) -> None:
    restated = pipeline.query(RESTATED.format(relation="ops.restatements"))
    assert {row[1] for row in restated} == {"2017-01", "2017-02", "2017-03", "2017-04"}
    assert closed_months(restated).passed
    sales = [row for row in restated if row[0] == "fct_sales"]
    assert [json.loads(row[4])["sales_value"] for row in sales] == [
        -float(MONTHS[month]) for month in ("01", "02", "03", "04")
    ]
    assert {row[5] for row in restated} == {f"loads none; erasures {number(pipeline)}"}


def number(pipeline: Pipeline) -> int:
    return int(pipeline.query("select erasure_id from ops.erasures order by 1")[0][0])


def test_explain_says_how_many_rows_were_erased(pipeline: Pipeline) -> None:
    """A day on which others shopped too: the load has fewer rows, and says why."""
    ((day, load_id),) = pipeline.query(
        "select business_date::text, load_id from marts.fct_sales where load_id in"
        " (select erased_load_id from ops.erased_rows where table_name = 'transactions') order by 1 limit 1"
    )
    ((erased,),) = pipeline.query(f"select row_count from ops.erased_rows where erased_load_id = {load_id}")
    done = granary(pipeline.settings, "explain", "marts.fct_sales", "--where", f"business_date = '{day}'")
    assert done.returncode == 0, done.stderr
    assert f"{erased} more row{'' if erased == 1 else 's'} erased: of a forgotten data subject" in done.stdout


def test_a_dump_made_now_has_nothing_of_it(pipeline: Pipeline, beginning: Path, tmp_path: Path) -> None:
    def lines(path: Path) -> int:
        """Count the lines of the raw sales in a dump that begin with household 1."""
        _, _, after = path.read_text().partition("\nCOPY raw_pos.transactions (household_id,")
        return sum(line.startswith("1\t") for line in after.partition("\n\\.\n")[0].splitlines())

    assert lines(beginning) == 393
    assert lines(dump(pipeline.settings, tmp_path / "after.sql")) == 0


def test_two_at_once(pipeline: Pipeline) -> None:
    """The same household twice, and another one: each is erased once. Until the marts follow, nothing is finished."""
    with ThreadPoolExecutor(3) as pool:
        done = list(
            pool.map(lambda one: forget.forget(pipeline.settings, household(one), build=nothing), ("5", "5", "7"))
        )
    assert not any(one.finished for one in done)
    assert "marts.fct_sales" in done[0].left
    assert sorted(len(one.totals) > 0 for one in done) == [False, True, True]
    rows = "select sum(row_count)::int from ops.erased_rows where table_name = 'transactions'"
    assert pipeline.query(rows) == [(393 + 41 + 298,)]
    assert pipeline.query("select count(*) from snapshots.snap_crm__households where household_id in (5, 7)") == [(0,)]


def test_what_is_delivered_again_stays_out(pipeline: Pipeline) -> None:
    """Every source is read anew, with one file corrected: the households that are left are all that lands."""
    folder = pipeline.settings.home / "demo" / "landing" / "pos" / "transactions"
    corrected = sorted(folder.glob("*.parquet"))[0]
    with retailer.systems(pipeline.settings):
        for source, table in (("pos", "transactions"), ("crm", "households"), ("marketing", "recipients")):
            assert load_table(pipeline.settings, source, table, full_refresh=True).rows_forgotten > 0
        whole = pq.read_table(corrected)
        pq.write_table(whole.slice(1), corrected)
        load_table(pipeline.settings, "pos", "transactions")
    pipeline.load()
    kept = "select count(*), sum(sales_value::numeric(12, 2)) from raw_pos.transactions where household_id in (1, 5, 7)"
    assert pipeline.query(kept) == [(0, None)]
    lost = "select count(*) from ops.load_audit where rows_read <> rows_loaded + rows_quarantined + rows_forgotten"
    assert pipeline.query(lost + " and status in ('loaded', 'unchanged')") == [(0,)]
    pipeline.execute("delete from intermediate.int_sales__unknown_members where entity_id = 1")  # we planted it
    pipeline.dbt("build", "--exclude-resource-type", "unit_test")
    assert forget.forget(pipeline.settings, None, build=nothing).finished
    for household in ("1", "5", "7"):
        assert holders(pipeline.settings, household) == []


def test_the_marts_are_those_of_a_full_refresh(pipeline: Pipeline) -> None:
    incremental = pipeline.marts()
    pipeline.dbt("run", "--full-refresh")
    assert pipeline.marts() == incremental


def test_an_erasure_waits_for_the_load_at_work(pipeline: Pipeline) -> None:
    """What that load brings is found, since the erasure begins when it has ended."""
    source, table = find("pos", "transactions")
    files = (pipeline.settings.home / "demo" / "landing" / "pos" / "transactions").iterdir()
    line = next(whole for file in sorted(files) if (whole := pq.read_table(file)).num_rows).slice(0, 1)
    line = line.set_column(line.schema.get_field_index("household_id"), "household_id", pa.array([88], pa.int64()))
    with ThreadPoolExecutor(1) as pool:
        with LoadTransaction(pipeline.settings, "pos") as tx:
            append(tx, source, table, Unit("late"), [SourceBatch(batch) for batch in line.to_batches()])
            looking = pool.submit(forget.look, pipeline.settings, household("88"))
            assert wait([looking], timeout=2).not_done
        assert [(total.relation, total.rows) for total in looking.result()] == [("raw_pos.transactions", 1)]
    done = forget.forget(pipeline.settings, household("88"), build=nothing)
    assert (done.finished, len(done.erasures)) == (True, 1)


def test_the_scan_and_a_second_look_notice_what_was_overlooked(pipeline: Pipeline) -> None:
    pipeline.execute(
        "insert into snapshots.snap_crm__households (household_id, updated_at, load_id, load_row, dbt_scd_id,"
        " dbt_updated_at, dbt_valid_from) values (1, now(), 1, 1, 'x', now(), now())"
    )
    assert holders(pipeline.settings, "1") == ["snapshots.snap_crm__households"]
    done = forget.forget(pipeline.settings, None, build=nothing)
    assert (done.finished, [total.rows for total in done.totals]) == (True, [1])
    assert holders(pipeline.settings, "1") == []


def test_a_warehouse_that_is_restored_is_brought_back(
    pipeline: Pipeline, beginning: Path, make_warehouse: Callable[[str], Settings]
) -> None:
    """The dump is older than every erasure; the list and its key are not in it."""
    restored = make_warehouse("restored")
    with connect(restored) as connection:
        connection.execute(b"drop schema ops cascade")
        connection.commit()
    done = subprocess.run(
        [str(find_binaries() / "bin" / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-f", str(beginning), restored.uri()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "marts.fct_sales" in holders(restored, "1")
    shutil.copytree(folder(pipeline.settings), folder(restored))
    assert health(restored).erasures_open == 4
    forget.forget(restored, None)
    for household in ("1", "5", "7"):
        assert holders(restored, household) == []
    with connect(restored) as connection:
        left = query(connection, "select count(*), sum(sales_value) from marts.fct_sales")
        others = query(connection, "select count(distinct household_id) from marts.dim_household")
    # 1,534 - 393 - 298 - 41 lines; 4,515.09 - 965.77 - 786.99 - 109.76.
    assert left == [(802, Decimal("2652.57"))]
    assert others == [(4,)]
    assert health(restored).erasures_open == 0


def test_only_what_is_declared_is_erased(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members have `id` as their subject. Goods have an `id` too, and 9002 is one of them."""

    def table(name: str, **subject: Any) -> Table:
        return Table(
            name=name,
            description="Made.",
            location=name,
            columns=(Column("id", pa.int64(), "Number.", nullable=False, **subject),),
            key=("id",),
            disposition="append",
            freshness=timedelta(days=1),
        )

    members = table("members", personal="pseudonym", subject="household")
    club = replace(
        find("pos", "transactions")[0],
        name="club",
        settings=(),
        tables=(members, table("goods")),
        capture=Capture(setting="X", slot="x", publication="x"),
    )
    monkeypatch.setattr(locations, "SOURCES", {**locations.SOURCES, "club": club})
    profile = {"columns": [{"name": "id", "minimum": "9002", "maximum": "9002", "percentiles": [], "top": []}]}
    refused = (
        "insert into ops.quarantine (source, table_name, identity, row_number, payload, load_id, unit, column_name,"
        " reason, contract_version) select 'club', t.*, 1, 'made', 'id', 'made', 1 from (values"
    )
    pipeline.execute(
        "create schema raw_club authorization loader",
        "create schema ada",
        "create table ada.copies as select 9002 as household_id",
        *(
            statement
            for name in ("members", "goods")
            for statement in (
                f"create table raw_club.{name} as select 9002::bigint as id, 1::bigint as _load_id, 1 as _row",
                f"create table raw_club.{name}_changes as select 3::bigint as id, 1::bigint as _load_id, 1 as _row,"
                """ '{"id": "9002"}'::text as cdc_key_before""",
                f"insert into ops.profiles (relation, row_count, profile) values"
                f" ('raw_club.{name}', 1, '{json.dumps(profile)}')",
                f"""{refused} ('{name}', 'a', 1, '{{"id": 9002, "n": 1}}'::jsonb)) as t""",
                f"""{refused} ('{name}', 'b', 2, '{{"line": "9002;x"}}'::jsonb)) as t""",
            )
        ),
    )
    server.prepare(pipeline.settings)  # the tables made by hand become the loader's
    done = forget.forget(pipeline.settings, household("9002"), build=nothing)
    assert (done.finished, done.left, done.elsewhere) == (True, (), ("ada.copies",))
    assert {total.relation: total.rows for total in done.totals} == {
        "raw_club.members": 1,
        "raw_club.members_changes": 1,
        "ops.quarantine": 1,
        "ops.quarantine, text taken out": 1,
        "ops.profiles": 1,
    }
    assert pipeline.query("select id from raw_club.members") == []
    assert pipeline.query("select id from raw_club.goods") == [(9002,)]
    before = "select cdc_key_before from raw_club.{}_changes"
    assert pipeline.query(before.format("members")) == [(None,)]
    assert pipeline.query(before.format("goods")) == [('{"id": "9002"}',)]
    assert pipeline.query(
        "select table_name, payload::text from ops.quarantine where source = 'club' order by 1, row_number desc"
    ) == [
        ("goods", '{"line": "9002;x"}'),
        ("goods", '{"n": 1, "id": 9002}'),
        ("members", json.dumps(BLANK)),
    ]
    shown = (
        "select relation, profile -> 'columns' -> 0 ->> 'minimum' from ops.profiles where relation ~ 'club' order by 1"
    )
    assert pipeline.query(shown) == [("raw_club.goods", "9002"), ("raw_club.members", None)]
    pipeline.execute("drop schema ada cascade", "drop schema raw_club cascade")


def test_nobody_is_named_in_what_is_kept(pipeline: Pipeline) -> None:
    kept = pipeline.query("select subject, key_mark from ops.erasures")
    assert all(len(subject) == 64 for subject, _ in kept)
    with pytest.raises(GranaryError, match="there is no such household"):
        forget.forget(pipeline.settings, household("99"), build=nothing)
    assert len(pipeline.query("select subject from ops.erasures")) == len(kept) == 5
