"""An expression has the same answer on Postgres and, translated, on Spark: the one that is worked out here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.spark.dialect import translated
from granary.spark.session import connect

if TYPE_CHECKING:
    from granary.spark.cluster import Cluster
    from tests.python.project.pipeline.conftest import Pipeline

DAYS = (
    "(values (date '2017-03-05', date '2017-01-01', 7, 2, cast(10.00 as numeric(12, 2)))) as t (late, early, a, b, m)"
)
ANSWERS = {
    f"select late - early from {DAYS}": "63",
    f"select late - 5 from {DAYS}": "2017-02-28",
    f"select late - a * (late - early) from {DAYS}": "2015-12-20",
    f"select a / b from {DAYS}": "3",
    f"select -a / b from {DAYS}": "-3",
    f"select cast(m / a as numeric(12, 6)) from {DAYS}": "1.428571",
    f"select cast(cast(a as numeric) / b as numeric(9, 4)) from {DAYS}": "3.5000",
    f"select cast(1.0 * count(*) / 3 as numeric(9, 6)) from {DAYS}": "0.333333",
    f"select cast(cast(a as numeric) / b as integer) from {DAYS}": "4",
    f"select cast(m as numeric) / 4 = 2.5 from {DAYS}": "true",
    f"select (late, a) is distinct from (early, a) from {DAYS}": "true",
    f"select (late, null) is distinct from (late, null) from {DAYS}": "false",
    f"select trim(to_char(late, 'Day')) from {DAYS}": "Sunday",
    f"select cast(extract(isodow from late) as integer) from {DAYS}": "7",
    f"select cast(extract(isoyear from early) as integer) from {DAYS}": "2016",
    f"select cast(extract(week from early) as integer) from {DAYS}": "52",
    f"select cast(extract(doy from late) as integer) from {DAYS}": "64",
    f"select cast(date_trunc('month', late) as date) from {DAYS}": "2017-03-01",
    f"select cast(late + interval '1 month' as date) from {DAYS}": "2017-04-05",
    f"select cast(extract(epoch from timestamptz '1900-01-01 00:00:00+00') as text) from {DAYS}": "-2208988800.000000",
    # 02:30 was skipped that night in New York: clocks went from 02:00 to 03:00.
    "select cast(extract(epoch from cast(d + 1 as timestamp) at time zone 'America/New_York'"
    " - cast(d as timestamp) at time zone 'America/New_York') / 3600 as integer)"
    " from (values (date '2017-03-12')) as t (d)": "23",
    "select cast(timestamptz '2017-01-01 04:59:00+00' at time zone 'America/New_York' as date)"
    " from (values (1)) as t (x)": "2016-12-31",
    "select cast(avg(x) as numeric(18, 6)) from (values (cast(1.00 as numeric(12, 2))), (1.00), (0.00)) as t (x)": (
        "0.666667"
    ),
    "select count(*) filter (where x > 1) from (values (1), (2), (3)) as t (x)": "2",
    "select sum(x) from generate_series(1, 5) as t (x)": "15",
    "select max(d) from generate_series(date '2017-01-01', date '2017-02-01', interval '1 day') as t (d)"
    " where cast(d as date) < date '2017-01-31' having cast(max(d) as date) = date '2017-01-30' and false": "",
    "select width_bucket(3, array_agg(x order by x)) from (values (1), (5), (2), (3)) as t (x)": "3",
    "select width_bucket(3, array_agg(x order by x)) is null from (values (1)) as t (x) where x > 9": "true",
    "select array_to_string(array_agg(x order by x), ',', '-') from (values (2), (null), (1)) as t (x)": "1,2,-",
    f"select '<' || to_char(early, 'Month') || '>' from {DAYS}": "<January  >",
    "select percentile_disc(0.5) within group (order by x) from (values (1), (2), (3), (9)) as t (x)": "2",
    "select percentile_cont(0.5) within group (order by x) from (values (1), (2), (3), (9)) as t (x)": "2.5",
    "select string_agg(x, '') from (select distinct on (k) k, x from (values (1, 'b'), (1, 'a')) as t (k, x)"
    " order by k, x) as u": "a",
    "select max(m.v) from (values (1, 8)) as t (a, b) cross join lateral (values (t.a), (t.b)) as m (v)": "8",
    r"select substring('week-07 of 53' from 'week-(\d\d)') from (values (1)) as t (x)": "07",
    "select count(*) from (values (1), (2)) as t (x) where x = any(array(select y from (values (2), (3)) as u (y)))": (
        "1"
    ),
    "select (array_agg(x))[1] is null from (values (1)) as t (x) where false": "true",
    "select x from (values (1), (null), (0)) as t (x) order by x limit 1": "0",
    "select least(x, 3) + greatest(x, 3) from (values (cast(null as integer))) as t (x)": "6",
}


@pytest.mark.parametrize("sql", ANSWERS)
def test_an_expression_has_the_same_answer(sql: str, loaded: Pipeline, spark: Cluster) -> None:
    (postgres,) = loaded.query(sql) or [("",)]
    session = connect(spark)
    session.conf.set("spark.sql.ansi.enabled", "false")  # as dbt-spark has it
    asked = session.sql(translated(sql, lambda _: {}, "test")).collect() or [("",)]
    assert (_text(postgres[0]), _text(asked[0][0])) == (ANSWERS[sql], ANSWERS[sql])


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
