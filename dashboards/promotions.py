"""What displays and mailers move."""

from __future__ import annotations

import altair as alt

from dashboards import findings
from dashboards.shared import COUNT, MONEY, PERCENT, bars, columns
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Filter, Page, key, ratio, total, value
from granary.pages.dashboard.theme import BLUE, ORANGE


def _weeks(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_area(line={"color": BLUE}, color=BLUE, opacity=0.25)
        .encode(
            x=alt.X("week:Q", title="Week of the retailer, 2017", scale=alt.Scale(nice=False)),
            y=alt.Y("promoted_share:Q", title="On promotion", axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=True)),
            tooltip=[
                alt.Tooltip("week:Q", title="Week"),
                alt.Tooltip("promoted_share:Q", title="On promotion", format=PERCENT),
                alt.Tooltip("on_sales:Q", title="Sales on promotion", format=MONEY),
            ],
        )
        .properties(height=240)
    )


def _placements(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_rect()
        .encode(
            x=alt.X("mailer:N", title="In the mailer", axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("display:N", title=None),
            color=alt.Color(
                "sales:Q",
                title="Sales, logarithmic",
                scale=alt.Scale(type="symlog"),
                legend=alt.Legend(format="$,.2~s", gradientLength=160, values=[100, 10_000, 1_000_000]),
            ),
            tooltip=[
                alt.Tooltip("display:N", title="On display"),
                alt.Tooltip("mailer:N", title="In the mailer"),
                alt.Tooltip("sales:Q", title="Sales", format=MONEY),
                alt.Tooltip("line_count:Q", title="Lines", format=COUNT),
                alt.Tooltip("loyalty_rate:Q", title="Loyalty discount", format=PERCENT),
            ],
        )
        .properties(height=alt.Step(26))
    )


PAGE = Page(
    name="promotions",
    title="Promotions",
    lead="What is sold on display and in the mailer, and how much more than otherwise. Where nothing is reported of a"
    " store and week, nobody knows; such sales are left out of the shares.",
    datasets=(
        Dataset("promotion_weeks"),
        Dataset("placements"),
        Dataset("lift_classes"),
        Dataset("lift_products"),
    ),
    filters=(Filter("department", "Department", "All departments", "promotion_weeks"),),
    figures=(
        Figure("Sales on promotion", "promotion_weeks", total("on_sales", "", "money")),
        Figure(
            "Share on promotion",
            "promotion_weeks",
            ratio("promoted_share", "", "percent", "on_sales", "known_sales"),
            note="of what is known",
        ),
        Figure(
            "Nothing known",
            "promotion_weeks",
            ratio("unknown_share", "", "percent", "unknown_sales", "sales"),
            note="of all sales",
        ),
        Figure("Products compared", "lift_classes", total("products", "", "count"), note="enough weeks on and off"),
        Figure(
            "Sell more on promotion",
            "lift_classes",
            ratio("gaining_share", "", "percent", "gaining", "products"),
            note="of these products",
        ),
    ),
    charts=(
        Chart(
            "promoted",
            "How much of sales is on promotion, week by week",
            "Percent of the sales of which anything is known.",
            "promotion_weeks",
            (
                key("week", "Week", "count"),
                total("on_sales", "On promotion", "cents"),
                total("known_sales", "Known", "cents"),
                ratio("promoted_share", "Share", "percent", "on_sales", "known_sales"),
            ),
            _weeks,
            finding=findings.share("on_sales", "known_sales", "{share} of the sales are on promotion"),
        ),
        Chart(
            "discounts",
            "Promoted goods are cheaper, too",
            "Loyalty discount in percent of the regular value.",
            "promotion_weeks",
            (
                key("promotion", "Promotion"),
                total("sales", "Sales", "cents"),
                total("regular_value", "Regular value", "cents"),
                ratio("loyalty_rate", "Loyalty discount", "percent", "loyalty_discount", "regular_value"),
            ),
            bars("promotion", "Promotion", "loyalty_rate", "Loyalty discount", PERCENT, step=44),
            order="sales",
            finding=findings.discounts,
        ),
        Chart(
            "placement-map",
            "Where promoted goods stand: display by mailer",
            "Sales in dollars, on a logarithmic scale.",
            "placements",
            (
                key("display", "On display"),
                key("mailer", "In the mailer"),
                total("sales", "Sales", "cents"),
                total("line_count", "Lines", "count"),
                ratio("loyalty_rate", "Loyalty discount", "percent", "loyalty_discount", "regular_value"),
            ),
            _placements,
            finding=findings.placements,
        ),
        Chart(
            "lifts",
            "How much more products sell on promotion",
            "Products by lift: sales per store and week on promotion, divided by those off promotion. Over 1 is more.",
            "lift_classes",
            (
                key("lift_class", "Lift"),
                total("products", "Products", "count"),
                total("on_sales", "Sales on promotion", "cents"),
            ),
            columns("lift_class", "Lift", "products", "Products", COUNT),
            finding=findings.share("gaining", "products", "{share} of the products sell more on promotion"),
        ),
        Chart(
            "lift-products",
            "The 20 products that sell most on promotion, and their lift",
            "Lift, with the sales on promotion in the table. Enough weeks and lines on both sides.",
            "lift_products",
            (
                key("product", "Product"),
                value("lift", "Lift", "times"),
                total("on_sales", "Sales on promotion", "cents"),
                value("on_store_weeks", "Store-weeks on", "count"),
                value("off_store_weeks", "Store-weeks off", "count"),
            ),
            bars("product", "Product", "lift", "Lift", ",.2f", step=22, colour=ORANGE),
            order="on_sales",
            limit=20,
            wide=True,
            finding=findings.lift_products,
        ),
    ),
)
