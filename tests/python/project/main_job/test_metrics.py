"""Every metric gives what SQL on the marts gives, in total and by dimensions, on the whole year.

The SQL below does not use what the metrics are made of where there is another way: baskets and households are counted
on the sales lines, and retention, campaigns and rolling sums are worked out from the facts alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from granary.dbt import manifest as dbt_manifest
from granary.warehouse.project import PROJECT
from tests.python.support.metricflow import Question, ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.python.project.main_job.conftest import Year

LINES = "marts.fct_sales as s inner join marts.dim_product as p using (product_key)"
TODAY = (
    f"{LINES} inner join (select product_id as id, product_category as category from marts.dim_product"
    " where is_current) as today on today.id = s.product_id"
)
NOT_FUEL = "filter (where not s.is_fuel)"
OF_LINES = {
    "sales": "sum(sales_value)",
    "sales_without_fuel": f"sum(sales_value) {NOT_FUEL}",
    "fuel_sales": "sum(sales_value) filter (where s.is_fuel)",
    "customer_paid": "sum(sales_value) - sum(coupon_disc)",
    "lines": "count(*)",
    "units": f"sum(quantity) {NOT_FUEL}",
    "average_unit_price": f"sum(sales_value) {NOT_FUEL} / nullif(sum(quantity) {NOT_FUEL}, 0)",
    "private_label_sales": "sum(sales_value) filter (where brand = 'Private' and not s.is_fuel)",
    "private_label_sales_share": "sum(sales_value) filter (where brand = 'Private' and not s.is_fuel)"
    f" / nullif(sum(sales_value) {NOT_FUEL}, 0)",
    "regular_value": "sum(sales_value) + sum(retail_disc) + sum(coupon_match_disc)",
    "loyalty_discount": "sum(retail_disc)",
    "coupon_discount": "sum(coupon_disc)",
    "coupon_match": "sum(coupon_match_disc)",
    "discount_rate": "1 - sum(sales_value) / nullif(sum(sales_value + retail_disc + coupon_match_disc), 0)",
    "discount_share": "1 - sum(customer_paid) / nullif(sum(regular_value), 0)",
    "coupon_rate": "sum(coupon_disc) / nullif(sum(sales_value), 0)",
}
# The baskets, made of the sales lines.
VISITS = """
    (select basket_id, s.household_id, store_id, business_date, income_range, count(*) as lines,
        sum(sales_value) as sales, sum(quantity) filter (where not is_fuel) as units, bool_or(is_fuel) as has_fuel,
        bool_or(coupon_disc > 0) as has_coupon
    from marts.fct_sales as s inner join marts.dim_household as h using (household_key)
    group by basket_id, s.household_id, store_id, business_date, income_range) as b
"""
OF_VISITS = {
    "baskets": "count(*)",
    "average_basket": "sum(sales) / count(*)",
    "units_per_basket": "sum(units) * 1.0 / count(*)",
    "lines_per_basket": "sum(lines) * 1.0 / count(*)",
    "coupon_baskets": "count(*) filter (where has_coupon)",
    "coupon_basket_share": "count(*) filter (where has_coupon) * 1.0 / count(*)",
    "fuel_baskets": "count(*) filter (where has_fuel)",
    "fuel_basket_share": "count(*) filter (where has_fuel) * 1.0 / count(*)",
    "active_stores": "count(distinct store_id)",
    "trading_days": "count(distinct business_date)",
    "sales_per_trading_day": "sum(sales) / count(distinct business_date)",
    "active_households": "count(distinct household_id)",
    "sales_per_household": "sum(sales) / count(distinct household_id)",
    "baskets_per_household": "count(*) * 1.0 / count(distinct household_id)",
    "median_basket": "percentile_cont(0.5) within group (order by sales)",
    "ninth_decile_basket": "percentile_cont(0.9) within group (order by sales)",
}
# Every month with every household that shopped for the first time in it or before.
MONTHS = """
    (with active as (
        select distinct household_id, cast(date_trunc('month', business_date) as date) as month from marts.fct_sales
    ), first as (select household_id, min(month) as cohort from active group by household_id)
    select m.month, cohort, a.household_id is not null as now, b.household_id is not null as before
    from (select distinct month from active) as m
    inner join first on cohort <= m.month
    left join active as a on a.household_id = first.household_id and a.month = m.month
    left join active as b on b.household_id = first.household_id and b.month = m.month - interval '1 month') as m
"""
LATER = "filter (where cohort < month)"
OF_MONTHS = {
    "new_households": "count(*) filter (where cohort = month)",
    "retention_base": f"count(*) {LATER}",
    "retained_households": "count(*) filter (where cohort < month and now)",
    "retention_rate": f"count(*) filter (where cohort < month and now) * 1.0 / nullif(count(*) {LATER}, 0)",
    "households_active_month_before": "count(*) filter (where before)",
    "returning_households": "count(*) filter (where before and now)",
    "repeat_rate": "count(*) filter (where before and now) * 1.0 / nullif(count(*) filter (where before), 0)",
    "churn_rate": "count(*) filter (where before and not now) * 1.0 / nullif(count(*) filter (where before), 0)",
}
CONTACTS = """
    (select campaign_id, c.household_id, campaign_type,
        k.start_date - duration_days >= span.first and k.end_date <= span.last as measured,
        coalesce(sum(sales_value) filter (where business_date >= k.start_date), 0) as within,
        coalesce(sum(sales_value) filter (where business_date < k.start_date), 0) as before,
        (campaign_id, c.household_id) in (
            select campaign_id, household_id from marts.fct_coupon_redemptions
        ) as redeemed
    from marts.fct_campaign_contacts as c
    inner join marts.dim_campaign as k using (campaign_id)
    cross join (select min(business_date) as first, max(business_date) as last from marts.fct_baskets) as span
    left join marts.fct_baskets as b on b.household_id = c.household_id
        and business_date between k.start_date - duration_days and k.end_date
    group by campaign_id, c.household_id, campaign_type, duration_days, k.start_date, k.end_date, first, last) as c
"""
WITHIN, BEFORE = "sum(within) filter (where measured)", "sum(before) filter (where measured)"
OF_CONTACTS = {
    "contacts": "count(*)",
    "contacted_households": "count(distinct household_id)",
    "redeeming_contacts": "count(*) filter (where redeemed)",
    "redemption_rate": "count(*) filter (where redeemed) * 1.0 / count(*)",
    "redeeming_contacted_households": "count(distinct household_id) filter (where redeemed)",
    "household_redemption_rate": "count(distinct household_id) filter (where redeemed) * 1.0"
    " / count(distinct household_id)",
    "campaign_sales": WITHIN,
    "campaign_sales_before": BEFORE,
    "campaign_lift": f"({WITHIN} - {BEFORE}) / {BEFORE}",
}
REDEMPTIONS = "marts.fct_coupon_redemptions as r inner join marts.dim_campaign as k using (campaign_id)"
OF_REDEMPTIONS = {
    "redemptions": "count(*)",
    "redeeming_households": "count(distinct household_id)",
    "coupons_redeemed": "count(distinct coupon_upc)",
    "redemptions_per_household": "count(*) * 1.0 / count(distinct household_id)",
}
# What a day's value is made of: the baskets of the 31 days that end with it.
DAYS = (
    "generate_series(date '2017-12-01', '2017-12-31', '1 day') as day inner join marts.fct_baskets as b"
    " on business_date between cast(day as date) - 30 and cast(day as date)"
)
OF_DAYS = {
    "sales_28d": "sum(sales_value) filter (where business_date > cast(day as date) - 28)",
    "sales_month_to_date": "sum(sales_value) filter (where business_date >= date '2017-12-01')",
    "active_households_28d": "count(distinct household_id) filter (where business_date > cast(day as date) - 28)",
}
CHANGES = """
    (with months as (
        select cast(date_trunc('month', business_date) as date) as month, sum(sales_value) as sales
        from marts.fct_sales group by month
    ) select month, now.sales, before.sales as before
    from months as now full join (select cast(month + interval '1 month' as date) as month, sales from months) as before
        using (month)) as m
"""
OF_CHANGES = {
    "sales_month_before": "sum(before)",
    "sales_change": "sum(sales - before)",
    "sales_growth": "sum((sales - before) / before)",
}


@dataclass(frozen=True)
class Comparison:
    """Metrics, each with its SQL, over one source, by at most one dimension, which is `key` in SQL."""

    source: str
    metrics: Mapping[str, str]
    by: str = ""
    key: str = "null"
    days: tuple[str, str] | tuple[()] = ()

    def __str__(self) -> str:
        return f"{next(iter(self.metrics))}... {self.by or 'in total'}"

    @property
    def question(self) -> Question:
        return Question(list(self.metrics), [self.by] if self.by else [], *self.days)

    @property
    def sql(self) -> str:
        values = ", ".join(f"cast({value} as double precision)" for value in self.metrics.values())
        return f"select cast({self.key} as text), {values} from {self.source} group by 1"


def distinct(what: str, metrics: Mapping[str, str], *, by: str = "", key: str = "null") -> Comparison:
    """Compare metrics that count something once, however many lines it has."""
    once = f"(select {key} as key, {what}, sum(sales_value) as sales from {LINES} group by 1, 2) as d"
    return Comparison(once, metrics, by, "key")


BUYERS = {"buyers": "count(*)", "sales_per_buyer": "sum(sales) / count(*)"}
PRODUCTS, CONTAINING = {"products_sold": "count(*)"}, {"baskets_containing": "count(*)"}
Lines, Visits = partial(Comparison, LINES, OF_LINES), partial(Comparison, VISITS, OF_VISITS)
BY_DEPARTMENT = {"by": "product__department", "key": "department"}
MONTH = "date_trunc('month', business_date)"
COMPARISONS = [
    Lines(),
    Lines(**BY_DEPARTMENT),
    Comparison(TODAY, OF_LINES, "product_today__product_category", "today.category"),
    distinct("s.product_id", PRODUCTS),
    distinct("s.product_id", PRODUCTS, **BY_DEPARTMENT),
    distinct("basket_id", CONTAINING),
    distinct("basket_id", CONTAINING, **BY_DEPARTMENT),
    distinct("s.household_id", BUYERS),
    distinct("s.household_id", BUYERS, **BY_DEPARTMENT),
    Visits(),
    Visits("metric_time__month", MONTH),
    Comparison(VISITS, {"baskets": OF_VISITS["baskets"]}, "household__income_range", "income_range"),
    Comparison(MONTHS, OF_MONTHS),
    Comparison(MONTHS, OF_MONTHS, "metric_time__month", "month"),
    Comparison(MONTHS, OF_MONTHS, "household_month__cohort_month__month", "cohort"),
    Comparison(CONTACTS, OF_CONTACTS),
    Comparison(CONTACTS, OF_CONTACTS, "campaign__campaign_type", "campaign_type"),
    Comparison(REDEMPTIONS, OF_REDEMPTIONS),
    Comparison(REDEMPTIONS, OF_REDEMPTIONS, "campaign__campaign_type", "campaign_type"),
    Comparison(DAYS, OF_DAYS, "metric_time__day", "day", ("2017-12-01", "2017-12-31")),
    Comparison(CHANGES, OF_CHANGES, "metric_time__month", "month"),
]
# Dimensions of every model that the sales lines lead to, with ones of many values and one of a second join.
DIMENSIONS = (
    "basket__has_coupon",
    "basket__household__marital_status",
    "date__day_name",
    "date__retailer_week",
    "household__household_id",
    "household__kids_count",
    "line__is_fuel",
    "metric_time__quarter",
    "metric_time__week",
    "product__brand",
    "product__product_category",
    "store",
)
FANNED_OUT = {"sales.product": "product_id", "products.product": "product_id"}
FAULTS: list[tuple[Comparison, dict[str, str]]] = [
    (Comparison(LINES, {"sales": OF_LINES["sales"]}), {"sales.sales_value": "loyalty_value"}),
    (distinct("s.household_id", BUYERS), {"sales.distinct_households": "household_key"}),
    (Comparison(VISITS, {"baskets": OF_VISITS["baskets"]}), {"baskets.basket_rows": "line_count"}),
    (Comparison(MONTHS, OF_MONTHS), {"household_months.later_active_months": "case when is_active then 1 else 0 end"}),
    (Comparison(CONTACTS, OF_CONTACTS), {"contacts.sales_in_window": "sales_before"}),
    (Comparison(LINES, {"sales": OF_LINES["sales"]}, **BY_DEPARTMENT), FANNED_OUT),
]


@dataclass(frozen=True)
class Answers:
    """What MetricFlow answered, in one go."""

    compared: list[list[dict[str, Any]]]
    summed: list[list[dict[str, Any]]]
    faulty: list[list[dict[str, Any]]]


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    """Let our own SQL, too, sort and group in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGOPTIONS", "-c work_mem=256MB")
        yield


@pytest.fixture(scope="module")
def answers(year: Year) -> Answers:
    questions = [comparison.question for comparison in COMPARISONS]
    questions += [Question(["sales"], [dimension]) for dimension in DIMENSIONS]
    questions += [Question(one.question.metrics, one.question.by, fault=fault) for one, fault in FAULTS]
    found = iter(ask(year.settings, questions))
    return Answers(*([next(found) for _ in asked] for asked in (COMPARISONS, DIMENSIONS, FAULTS)))


def differences(year: Year, comparison: Comparison, answer: list[dict[str, Any]]) -> list[str]:
    """Return where MetricFlow and SQL disagree: by more than a billionth, so sums agree to the cent."""
    rows = year.query(comparison.sql)
    wanted = {_key(key): dict(zip(comparison.metrics, values, strict=True)) for key, *values in rows}
    found = {_key(row.get(comparison.by)): row for row in answer}
    if set(wanted) != set(found):
        return [f"keys {sorted(map(str, set(wanted) ^ set(found)))}"]
    return [
        f"{metric} of {key}: {found[key][metric]} and not {value}"
        for key, values in wanted.items()
        for metric, value in values.items()
        if (found[key][metric] or 0) != pytest.approx(value or 0, rel=1e-9, abs=1e-12)
    ]


def _key(value: Any) -> str | None:
    """Return the value of a dimension as text, a date without its hours."""
    return None if value is None else re.sub(r"^(\d{4}-\d\d-\d\d) .*", r"\1", str(value))


@pytest.mark.parametrize("number", range(len(COMPARISONS)), ids=lambda number: str(COMPARISONS[number]))
def test_metrics_agree_with_sql_on_the_marts(year: Year, answers: Answers, number: int) -> None:
    assert differences(year, COMPARISONS[number], answers.compared[number]) == []


@pytest.mark.parametrize("number", range(len(DIMENSIONS)), ids=lambda number: DIMENSIONS[number])
def test_no_dimension_multiplies_or_loses_sales(answers: Answers, number: int) -> None:
    rows = answers.summed[number]
    assert len(rows) > 1
    assert sum(round(row["sales"] * 100) for row in rows) == 459_603_958


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=lambda number: str(FAULTS[number][1]))
def test_a_wrong_expression_is_caught(year: Year, answers: Answers, number: int) -> None:
    assert differences(year, FAULTS[number][0], answers.faulty[number]) != []


def test_mf_works_from_anywhere_without_a_network(year: Year, tmp_path: Path) -> None:
    # Python's own sockets refuse to open; libpq, which is not Python, reaches the warehouse.
    offline = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('it called out')\n"
        "socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse\n"
        "from granary.cli.mf import main\n"
        "main()"
    )
    environment = year.settings.environment() | {"PYTHONPATH": str(PROJECT)}
    environment.pop("DBT_PROFILES_DIR", None)
    asked = [sys.executable, "-c", offline, "query", "--metrics", "sales,baskets", "--decimals", "2"]
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[-2:] == ["4596039.58", "155848"]
    wrong = subprocess.run(
        [*asked[:3], "query", "--metrics", "saels"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert wrong.returncode == 1
    assert b"'sales'" in wrong.stdout, "it suggests what may have been meant"


def test_every_metric_is_compared(year: Year) -> None:
    semantic = dbt_manifest.prepare(year.settings).with_name("semantic_manifest.json")
    metrics = {metric["name"] for metric in json.loads(semantic.read_text())["metrics"]}
    assert len(metrics) >= 30
    by_something = {name for comparison in COMPARISONS if comparison.by for name in comparison.metrics}
    in_total = {name for comparison in COMPARISONS if not comparison.by for name in comparison.metrics}
    assert by_something == metrics
    assert metrics - in_total == {*OF_DAYS, *OF_CHANGES}, "only what compares times has no total"


def test_values_that_a_person_worked_out(answers: Answers) -> None:
    def row(metric: str, by: str = "", key: str | None = None) -> dict[str, Any]:
        number = next(n for n, one in enumerate(COMPARISONS) if metric in one.metrics and one.by == by)
        return next(row for row in answers.compared[number] if _key(row.get(by)) == key)

    lines, visits = row("sales"), row("baskets")
    assert (lines["sales"], lines["customer_paid"]) == (4_596_039.58, 4_569_679.68)
    assert (visits["baskets"], visits["active_households"], visits["active_stores"]) == (155_848, 2_469, 457)
    # 4,596,039.58 / 155,848 = 29.4905; (791,650.64 + 4,542.65) / 5,392,232.87 = 0.14766
    assert (round(visits["average_basket"], 4), round(lines["discount_rate"], 5)) == (29.4905, 0.14766)
    # Every household is new once.
    assert row("new_households")["new_households"] == 2_469
    # 604 of 3,647, 154 of 2,368 and 34 of 574: question 8 of the guide.
    for kind, percent in {"Type A": 16.56, "Type B": 6.5, "Type C": 5.92}.items():
        assert round(100 * row("redemption_rate", "campaign__campaign_type", kind)["redemption_rate"], 2) == percent
    # 1,983 households shopped in January, and 1,763 of them in February.
    february = row("retention_rate", "metric_time__month", "2017-02-01")
    assert (february["retention_base"], february["retained_households"]) == (1_983, 1_763)
    # December 25 has no sales, so its 28 days are November 28 to December 24; month to date is that of the 24th.
    closed = row("sales_28d", "metric_time__day", "2017-12-25")
    assert closed["sales_month_to_date"] == row("sales_28d", "metric_time__day", "2017-12-24")["sales_month_to_date"]
    # 350,055.08 in February less 373,300.23 in January.
    assert round(row("sales_change", "metric_time__month", "2017-02-01")["sales_change"], 2) == -23_245.15
