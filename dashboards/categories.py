"""What is sold."""

from __future__ import annotations

import altair as alt

from dashboards import findings
from dashboards.shared import COUNT, MONEY, PERCENT, PRIVATE_LABEL_SHARE, SHORT_MONEY, bars
from granary.pages.dashboard.days import DAYS, day, day_tooltip
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Filter, Page, key, ratio, total, value
from granary.pages.dashboard.theme import BLUE, GREEN, GREY, ORANGE


def _heat(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_rect()
        .encode(
            x=alt.X(
                "week_start:T",
                timeUnit="utcyearweek",
                title=None,
                scale=alt.Scale(type="utc"),
                axis=DAYS,
            ),
            y=alt.Y("department:N", sort=None, title=None),
            color=alt.Color(
                "sales_index:Q",
                title="Times its mean week",
                scale=alt.Scale(range="diverging", domain=[0, 2], domainMid=1, clamp=True, interpolate="rgb"),
                legend=alt.Legend(gradientLength=160, tickCount=3),
            ),
            tooltip=[
                alt.Tooltip("department:N", title="Department"),
                day_tooltip("week_start", "Week from"),
                alt.Tooltip("sales:Q", title="Sales", format=MONEY),
                alt.Tooltip("sales_index:Q", title="Times its mean week", format=".2f"),
            ],
        )
        .properties(height=alt.Step(20))
    )


def _weeks(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_line(point=alt.OverlayMarkDef(size=25))
        .encode(
            x=day("week_start"),
            y=alt.Y("sales:Q", title="Dollars a week", axis=alt.Axis(format=SHORT_MONEY)),
            tooltip=[day_tooltip("week_start", "Week from"), alt.Tooltip("sales:Q", title="Sales", format=MONEY)],
        )
        .properties(height=240)
    )


def _abc(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_bar(size=4)
        .encode(
            x=alt.X(
                "product_share:Q",
                title="Products, the best first",
                axis=alt.Axis(format=".0%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            y=alt.Y(
                "sales_share:Q",
                title="Share of sales up to here",
                axis=alt.Axis(format=".0%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color(
                "abc_class:N", title="Class", scale=alt.Scale(domain=["A", "B", "C"], range=[BLUE, GREEN, GREY])
            ),
            tooltip=[
                alt.Tooltip("products:Q", title="Products", format=COUNT),
                alt.Tooltip("product_share:Q", title="Of all products", format=PERCENT),
                alt.Tooltip("sales_share:Q", title="Of all sales", format=PERCENT),
                alt.Tooltip("abc_class:N", title="Class"),
            ],
        )
        .properties(height=260)
    )


PAGE = Page(
    name="categories",
    title="Categories",
    lead="What is sold: departments through the year, their categories, and how few products make the sales.",
    datasets=(
        Dataset("department_weeks"),
        Dataset("categories"),
        Dataset("department_months"),
        Dataset("abc_curve"),
        Dataset("abc_classes"),
        Dataset("affinity"),
    ),
    filters=(Filter("department", "Department, the largest first", "All departments", "categories"),),
    figures=(
        Figure("Sales", "categories", total("sales", "", "money")),
        Figure("Units, without fuel", "categories", total("units", "", "count")),
        Figure("Discount rate", "categories", ratio("discount_rate", "", "percent", "given_up", "regular_value")),
        Figure(
            "Private-label share of sales",
            "department_months",
            ratio("private_label_sales_share", "", "percent", "private_value", "sales_without_fuel"),
        ),
        Figure("Products sold", "abc_classes", total("products", "", "count")),
    ),
    charts=(
        Chart(
            "weeks",
            "Departments week by week, against their own mean",
            "Sales of a whole week, as a multiple of the department's mean week: blue is more, orange"
            " less, twice and above"
            " is bluest. The largest department is at the top.",
            "department_weeks",
            (
                key("department", "Department"),
                key("week_start", "Week from"),
                value("sales", "Sales", "cents"),
                value("sales_index", "Times its mean week", "decimal"),
            ),
            _heat,
            wide=True,
            finding=findings.department_peaks,
        ),
        Chart(
            "top-categories",
            "The 20 categories that sell most",
            "Sales in dollars.",
            "categories",
            (
                key("category", "Category"),
                total("sales", "Sales", "cents"),
                total("units", "Units", "count"),
                ratio("discount_rate", "Discount rate", "percent", "given_up", "regular_value"),
            ),
            bars("category", "Category", "sales", "Sales", MONEY, step=21),
            order="sales",
            limit=20,
            finding=findings.leads("category", "sales", "{first} sells most: {share} of the sales"),
        ),
        Chart(
            "department-sales",
            "Sales of each week",
            "Dollars a week, of whole weeks only.",
            "department_weeks",
            (key("week_start", "Week from"), total("sales", "Sales", "cents")),
            _weeks,
            finding=findings.best_week,
        ),
        Chart(
            "private-labels",
            "Where own brands are strong",
            "Share of own brands in sales without fuel, of the twelve departments with most own-brand sales.",
            "department_months",
            (
                key("department", "Department"),
                total("private_value", "Own brands", "cents"),
                total("sales_without_fuel", "Sales without fuel", "cents"),
                PRIVATE_LABEL_SHARE,
            ),
            bars(
                "department",
                "Department",
                "private_label_sales_share",
                "Private-label share of sales",
                PERCENT,
                colour=GREEN,
            ),
            order="private_value",
            limit=12,
            finding=findings.share(
                "private_value", "sales_without_fuel", "Own brands make {share} of the sales without fuel"
            ),
        ),
        Chart(
            "abc",
            "How few products make the sales",
            "Class A makes the first 80 percent of sales, B the next 15, C the rest. All departments.",
            "abc_curve",
            (
                key("product_share", "Of all products", "percent"),
                value("products", "Products", "count"),
                value("sales_share", "Of all sales", "percent"),
                value("abc_class", "Class", "text"),
            ),
            _abc,
            finding=findings.few_products,
        ),
        Chart(
            "abc-classes",
            "Products and sales by class",
            "Products sold and dollars, in the department chosen; the class is that among all products.",
            "abc_classes",
            (
                key("abc_class", "Class"),
                total("products", "Products", "count"),
                total("sales", "Sales", "cents"),
                ratio("per_product", "Sales per product", "cents", "sales", "products"),
            ),
            bars("abc_class", "Class", "sales", "Sales", MONEY, step=34),
            finding=findings.leads("abc_class", "sales", "Class {first} makes {share} of the sales"),
        ),
        Chart(
            "pairs",
            "Categories that are bought together more often than by chance",
            "Lift: how many times as often as if the two had nothing to do with each other. All departments.",
            "affinity",
            (
                key("pair", "Categories"),
                value("lift", "Lift", "times"),
                value("baskets", "Baskets with both", "count"),
                value("support", "Of all baskets", "percent"),
                value("confidence_a_to_b", "First leads to second", "percent"),
                value("confidence_b_to_a", "Second leads to first", "percent"),
            ),
            bars("pair", "Categories", "lift", "Lift", ",.1f", step=21, colour=ORANGE),
            wide=True,
            finding=findings.pairs,
        ),
    ),
)
