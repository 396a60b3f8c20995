"""How the business does."""

from __future__ import annotations

import altair as alt

from dashboards import findings
from dashboards.shared import COUNT, MONEY, PRIVATE_LABEL_SHARE, SHORT_MONEY, bars
from granary.pages.dashboard.days import day, day_tooltip
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Filter, Page, key, ratio, total, value
from granary.pages.dashboard.theme import BLUE, ORANGE, SKY

BEFORE = "on the month before"


def _days(base: alt.Chart) -> alt.LayerChart:
    daily = base.mark_bar(color=SKY, opacity=0.75).encode(
        x=day("business_date"),
        y=alt.Y("sales:Q", title="Dollars a day", axis=alt.Axis(format=SHORT_MONEY)),
        tooltip=[
            day_tooltip("business_date", "Day"),
            alt.Tooltip("sales:Q", title="Sales", format=MONEY),
            alt.Tooltip("baskets:Q", title="Baskets", format=COUNT),
            alt.Tooltip("rolling_28d_sales:Q", title="28 days to then", format=MONEY),
        ],
    )
    rolling = base.mark_line(color=ORANGE).encode(x=day("business_date"), y=alt.Y("rolling_28d_per_day:Q"))
    return alt.layer(daily, rolling).properties(height=260)


def _weekdays(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_bar(cornerRadiusEnd=2, color=BLUE)
        .encode(
            x=alt.X("day_name:N", sort=None, title=None, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("sales_per_day:Q", title="Dollars a day", axis=alt.Axis(format=SHORT_MONEY, tickCount=5)),
            tooltip=[
                alt.Tooltip("day_name:N", title="Day"),
                alt.Tooltip("sales_per_day:Q", title="Sales a day", format=MONEY),
                alt.Tooltip("average_basket:Q", title="Average basket", format=MONEY),
            ],
        )
        .properties(height=260)
    )


PAGE = Page(
    name="index",
    title="Overview",
    lead="How much is sold, to how many, and whether it becomes more. Dates are business days in New York.",
    datasets=(
        Dataset("months", totals=("month",)),
        Dataset("days"),
        Dataset("department_months"),
        Dataset("weekdays"),
    ),
    filters=(Filter("month", "Month", "All months", "months", latest=True),),
    figures=(
        Figure("Sales", "months", total("sales", "", "money"), total("previous_sales", "", "money"), BEFORE),
        Figure(
            "Sales per trading day",
            "months",
            ratio("sales_per_trading_day", "", "money", "sales", "trading_days"),
            ratio("previous", "", "money", "previous_sales", "previous_trading_days"),
            BEFORE,
        ),
        Figure("Baskets", "months", total("baskets", "", "count"), total("previous_baskets", "", "count"), BEFORE),
        Figure(
            "Average basket",
            "months",
            ratio("average_basket", "", "cents", "sales", "baskets"),
            ratio("previous", "", "cents", "previous_sales", "previous_baskets"),
            BEFORE,
        ),
        Figure(
            "Active households",
            "months",
            value("households", "", "count"),
            value("previous_households", "", "count"),
            BEFORE,
        ),
        Figure(
            "Discount rate",
            "months",
            ratio("discount_rate", "", "percent", "given_up", "regular_value"),
            ratio("previous", "", "percent", "previous_given_up", "previous_regular_value"),
            BEFORE,
            "points",
        ),
        Figure(
            "Private-label share of sales",
            "months",
            ratio("private_label_sales_share", "", "percent", "private_value", "sales_without_fuel"),
            ratio("previous", "", "percent", "previous_private_value", "previous_sales_without_fuel"),
            BEFORE,
            "points",
        ),
    ),
    charts=(
        Chart(
            "daily-sales",
            "Sales of each day, with the mean of the last 28",
            "Dollars. The line is the mean of the 28 calendar days that end with the day; a day without sales counts as"
            " zero. The month chosen above does not act here.",
            "days",
            (
                key("business_date", "Day"),
                value("sales", "Sales", "cents"),
                value("baskets", "Baskets", "count"),
                value("rolling_28d_sales", "28 days to then", "cents"),
                value("rolling_28d_per_day", "Mean of the 28 days", "cents"),
            ),
            _days,
            ignores=("month",),
            wide=True,
            finding=findings.daily_sales,
        ),
        Chart(
            "departments",
            "The twelve departments that sell most",
            "Sales in dollars, and the share of own brands in what is not fuel (in the table).",
            "department_months",
            (
                key("department", "Department"),
                total("sales", "Sales", "cents"),
                PRIVATE_LABEL_SHARE,
            ),
            bars("department", "Department", "sales", "Sales", MONEY),
            order="sales",
            limit=12,
            finding=findings.leads("department", "sales", "{first} makes {share} of the sales"),
        ),
        Chart(
            "weekdays",
            "Sales by day of the week",
            "Dollars per trading day.",
            "weekdays",
            (
                key("day_name", "Day"),
                total("sales", "Sales", "cents"),
                total("trading_days", "Trading days", "count"),
                ratio("sales_per_day", "Sales a day", "cents", "sales", "trading_days"),
                ratio("average_basket", "Average basket", "cents", "sales", "baskets"),
            ),
            _weekdays,
            finding=findings.weekdays,
        ),
    ),
)
