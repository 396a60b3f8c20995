"""Where it is sold."""

from __future__ import annotations

import altair as alt

from dashboards import findings
from dashboards.shared import COUNT, MONEY, PERCENT, SHORT_MONEY, bars
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Filter, Page, key, ratio, total, value
from granary.pages.dashboard.theme import BLUE, ORANGE


def _changes(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_bar(cornerRadiusEnd=2)
        .encode(
            x=alt.X("sales_change_rate:Q", title="Change of sales", axis=alt.Axis(format="+.0%", tickCount=5)),
            y=alt.Y("store:N", sort=None, title=None),
            color=alt.condition("datum.sales_change_rate < 0", alt.value(ORANGE), alt.value(BLUE)),
            tooltip=[
                alt.Tooltip("store:N", title="Store"),
                alt.Tooltip("sales_last_28d:Q", title="Last 28 days", format=MONEY),
                alt.Tooltip("sales_previous_28d:Q", title="The 28 before", format=MONEY),
                alt.Tooltip("sales_change_rate:Q", title="Change", format="+.1%"),
            ],
        )
        .properties(height=alt.Step(22))
    )


def _concentration(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_area(line={"color": BLUE}, color=BLUE, opacity=0.25)
        .encode(
            x=alt.X("sales_rank:Q", title="Stores, the largest first", scale=alt.Scale(nice=False)),
            y=alt.Y("cumulative_share:Q", title="Share of all sales", axis=alt.Axis(format=".0%")),
            tooltip=[
                alt.Tooltip("sales_rank:Q", title="Stores"),
                alt.Tooltip("cumulative_share:Q", title="Share of sales", format=PERCENT),
            ],
        )
        .properties(height=240)
    )


def _multiples(base: alt.Chart) -> alt.FacetChart:
    return (
        base.mark_area(line={"color": BLUE}, color=BLUE, opacity=0.25)
        .encode(
            x=alt.X("month:N", sort=None, title=None, axis=alt.Axis(labels=False, ticks=False)),
            y=alt.Y("sales:Q", title=None, axis=alt.Axis(format=SHORT_MONEY, tickCount=3)),
            tooltip=[
                alt.Tooltip("store:N", title="Store"),
                alt.Tooltip("month:N", title="Month"),
                alt.Tooltip("sales:Q", title="Sales", format=MONEY),
                alt.Tooltip("baskets:Q", title="Baskets", format=COUNT),
            ],
        )
        .properties(height=80, width=140)
        .facet(facet=alt.Facet("store:N", sort=alt.EncodingSortField("sales_rank", op="min"), title=None), columns=6)
    )


def _scatter(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_point(opacity=0.6)
        .encode(
            x=alt.X(
                "baskets:Q",
                title="Baskets, logarithmic",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(values=[1, 3, 10, 30, 100, 300, 1000, 3000, 10000], format=",d"),
            ),
            y=alt.Y("average_basket:Q", title="Average basket", axis=alt.Axis(format="$,.0f")),
            tooltip=[
                alt.Tooltip("store:N", title="Store"),
                alt.Tooltip("baskets:Q", title="Baskets", format=COUNT),
                alt.Tooltip("average_basket:Q", title="Average basket", format=MONEY),
                alt.Tooltip("sales:Q", title="Sales", format=MONEY),
            ],
        )
        .properties(height=280)
    )


PAGE = Page(
    name="stores",
    title="Stores",
    lead="Which stores sell, which gain and which lose. Of stores only the number is known: there is no map to draw.",
    datasets=(Dataset("store_months"), Dataset("stores"), Dataset("store_largest")),
    filters=(
        Filter("month", "Month", "All months", "store_months"),
        Filter("store", "Store, the largest first", "All stores", "stores"),
    ),
    figures=(
        Figure("Sales", "store_months", total("sales", "", "money")),
        Figure("Baskets", "store_months", total("baskets", "", "count")),
        Figure("Average basket", "store_months", ratio("average_basket", "", "cents", "sales", "baskets")),
        Figure("Discount rate", "store_months", ratio("discount_rate", "", "percent", "given_up", "regular_value")),
        Figure(
            "Sales of the last 28 days",
            "stores",
            total("sales_last_28d", "", "money"),
            total("sales_previous_28d", "", "money"),
            "on the 28 before",
        ),
    ),
    charts=(
        Chart(
            "ranking",
            "The 20 stores that sell most",
            "Sales in dollars, in the month chosen.",
            "store_months",
            (
                key("store", "Store"),
                total("sales", "Sales", "cents"),
                total("baskets", "Baskets", "count"),
                ratio("average_basket", "Average basket", "cents", "sales", "baskets"),
            ),
            bars("store", "Store", "sales", "Sales", MONEY, step=22),
            order="sales",
            limit=20,
            finding=findings.largest_stores,
        ),
        Chart(
            "changes",
            "The 20 largest stores: the last 28 days against the 28 before",
            "Change of sales in percent; blue gains, orange loses.",
            "stores",
            (
                key("store", "Store"),
                value("sales_last_28d", "Last 28 days", "cents"),
                value("sales_previous_28d", "The 28 before", "cents"),
                value("sales_change", "Change in dollars", "cents"),
                value("sales_change_rate", "Change", "percent"),
            ),
            _changes,
            limit=20,
            finding=findings.changes,
        ),
        Chart(
            "multiples",
            "The twelve largest stores, month by month",
            "Sales in dollars from the first to the last month, each store on the same scale. The filters do not act"
            " here.",
            "store_largest",
            (
                key("store", "Store"),
                key("month", "Month"),
                value("sales_rank", "Rank", "count"),
                value("sales", "Sales", "cents"),
                value("baskets", "Baskets", "count"),
            ),
            _multiples,
            ignores=("month", "store"),
            wide=True,
            finding=findings.multiples,
        ),
        Chart(
            "baskets",
            "How often and how much: stores by baskets and average basket",
            "A point is a store; baskets on a logarithmic scale, average basket in dollars.",
            "store_months",
            (
                key("store", "Store"),
                total("baskets", "Baskets", "count"),
                total("sales", "Sales", "cents"),
                ratio("average_basket", "Average basket", "cents", "sales", "baskets"),
            ),
            _scatter,
            finding=findings.store_baskets,
        ),
        Chart(
            "concentration",
            "How few stores make how much of the sales",
            "Cumulative share of all sales, the largest store first. The filters do not act here.",
            "stores",
            (
                key("store", "Store"),
                value("sales_rank", "Rank", "count"),
                value("sales", "Sales", "cents"),
                value("cumulative_share", "Share up to here", "percent"),
            ),
            _concentration,
            ignores=("store",),
            finding=findings.concentration,
        ),
    ),
)
