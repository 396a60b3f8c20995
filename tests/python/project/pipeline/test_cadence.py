"""Same input, same output: whatever the cadence of loads and builds, the marts are those of a full refresh."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from granary.quarantine.replay import entries, replay

if TYPE_CHECKING:
    from pathlib import Path

    from tests.python.project.pipeline.conftest import Pipeline

# A month end with a change of household 7 (2017-10-01), and both days on which the clocks change.
SPANS = (
    (date(2017, 3, 11), date(2017, 3, 13)),
    (date(2017, 9, 29), date(2017, 10, 2)),
    (date(2017, 11, 4), date(2017, 11, 6)),
)


@pytest.mark.parametrize(("first", "last"), SPANS, ids=str)
def test_day_by_day_sales_are_those_of_raw(pipeline: Pipeline, first: date, last: date) -> None:
    for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
        pipeline.day(day)
        newest = pipeline.query("select max(business_date) from marts.fct_sales")[0][0]
        assert newest <= day
        raw = "select count(*), sum(sales_value::numeric(12, 2)) from raw_pos.transactions"
        assert pipeline.query("select count(*), sum(sales_value) from marts.fct_sales") == pipeline.query(raw)


def _file(pipeline: Pipeline, day: str) -> Path:
    return pipeline.settings.home / "demo" / "landing" / "pos" / "transactions" / f"{day}.parquet"


def _busiest(pipeline: Pipeline) -> list[str]:
    """Return the three business dates with most lines."""
    return [
        str(row[0])
        for row in pipeline.query(
            "select business_date::text from marts.fct_sales group by business_date order by count(*) desc, 1 limit 3"
        )
    ]


def test_corrected_emptied_and_late(pipeline: Pipeline) -> None:
    """After the days above: one file loses a line, one becomes empty, one brings a line of an earlier day."""
    corrected, emptied, other = _busiest(pipeline)
    before = dict(pipeline.query("select business_date::text, count(*) from marts.fct_sales group by 1"))

    table = pq.read_table(_file(pipeline, corrected))
    pq.write_table(table.slice(1), _file(pipeline, corrected))
    pq.write_table(pq.read_table(_file(pipeline, emptied)).slice(0, 0), _file(pipeline, emptied))
    late = table.slice(0, 1).set_column(
        table.schema.get_field_index("basket_id"), "basket_id", pa.array([1], pa.int64())
    )
    pq.write_table(pa.concat_tables([pq.read_table(_file(pipeline, other)), late]), _file(pipeline, other))

    pipeline.load("pos.transactions")
    pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test")
    after = dict(pipeline.query("select business_date::text, count(*) from marts.fct_sales group by 1"))
    expected = {day: count for day, count in before.items() if day != emptied}
    # One line less by the correction, one more that came late with another day's file.
    assert after == expected
    assert pipeline.query("select count(*) from marts.fct_sales where basket_id = 1") == [(1,)]
    moved = pc.sum(late.column("sales_value")).as_py()
    assert float(pipeline.query("select sum(sales_value) from marts.fct_sales where basket_id = 1")[0][0]) == moved
    assert pipeline.query(f"select count(*) from marts.fct_baskets where business_date = '{emptied}'") == [(0,)]


def test_refused_row_reaches_the_marts_when_it_is_replayed(pipeline: Pipeline) -> None:
    """250 baskets of a line each; the quantity of one is negative at first."""
    day = _busiest(pipeline)[0]
    whole = pq.read_table(_file(pipeline, day))
    line = pa.concat_tables([whole.slice(0, 1)] * 250)
    for column, values in (("basket_id", range(1000, 1250)), ("quantity", [1] * 249 + [-1])):
        line = line.set_column(line.schema.get_field_index(column), column, pa.array(values, pa.int64()))
    pq.write_table(pa.concat_tables([whole, line]), _file(pipeline, day))
    pipeline.load("pos.transactions")
    pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test")
    lines = "select count(*), sum(quantity)::bigint from marts.fct_sales where basket_id between 1000 and 1249"
    assert pipeline.query(lines) == [(249, 249)]
    (entry,) = entries(pipeline.settings)
    assert replay(pipeline.settings, [entry], {"quantity": "2"})[0].landed == (entry.quarantine_id,)
    pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test")
    assert pipeline.query(lines) == [(250, 251)]


def test_nothing_new_changes_nothing(pipeline: Pipeline) -> None:
    before = pipeline.marts()
    rows = pipeline.query("select max(xmin::text::bigint) from marts.fct_sales")
    pipeline.load()
    pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test")
    assert pipeline.marts() == before
    assert pipeline.query("select max(xmin::text::bigint) from marts.fct_sales") == rows


def test_all_of_that_equals_a_full_refresh(pipeline: Pipeline) -> None:
    """What an increment has left wrong above is still there."""
    incremental = pipeline.marts()
    pipeline.dbt("run", "--full-refresh")
    assert pipeline.marts() == incremental


def test_window_overwrites_its_days(pipeline: Pipeline) -> None:
    """A backfill writes its business dates anew even though no load touched them."""
    before = pipeline.marts()
    day = _busiest(pipeline)[0]
    pipeline.execute(*(f"update {schema}.fct_sales set quantity = quantity + 1" for schema in ("build", "marts")))
    assert pipeline.marts() != before
    window = f"{{from_date: '{day}', to_date: '{day}'}}"
    pipeline.dbt("run", "--select", "fct_sales", "--vars", window)
    raw = (
        "select sum(f.quantity) - sum(r.quantity) from marts.fct_sales as f inner join raw_pos.transactions as r"
        f" using (basket_id, product_id) where (f.business_date = '{day}')"
    )
    assert int(pipeline.query(raw)[0][0]) == 0
    pipeline.dbt("run", "--full-refresh", "--select", "fct_sales+")
    assert pipeline.marts() == before


def test_all_data_tests_and_unit_tests_pass(pipeline: Pipeline) -> None:
    results = pipeline.dbt("test")
    assert len(results) > 80
    # The line that came late with another day's file, above.
    assert {
        name: str(result.status) for name, result in results.items() if result.status not in ("pass", "success")
    } == {"sales_are_of_the_day_of_their_file": "warn"}
