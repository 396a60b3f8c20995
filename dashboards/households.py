"""Who buys, how loyally."""

from __future__ import annotations

import altair as alt

from dashboards import findings
from dashboards.shared import COUNT, MONEY, PERCENT, bars, columns
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Filter, Page, key, ratio, total, value
from granary.pages.dashboard.theme import GREEN, LESS, MORE


def _rfm(base: alt.Chart) -> alt.LayerChart:
    place = base.encode(
        x=alt.X("frequency:O", title="Frequency: 5 comes most often", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("recency:O", sort="descending", title="Recency: 5 came last"),
    )
    cells = place.mark_rect(stroke="var(--paper)", strokeWidth=2).encode(
        color=alt.Color(
            "sales_per_household:Q",
            title="Sales per household",
            legend=alt.Legend(format="$,.0f", gradientLength=160, tickCount=4),
        ),
        tooltip=[
            alt.Tooltip("segment:N", title="Segment"),
            alt.Tooltip("recency:O", title="Recency"),
            alt.Tooltip("frequency:O", title="Frequency"),
            alt.Tooltip("households:Q", title="Households", format=COUNT),
            alt.Tooltip("sales_per_household:Q", title="Sales per household", format=MONEY),
            alt.Tooltip("lapsed_rate:Q", title="Lapsed", format=PERCENT),
        ],
    )
    counts = place.mark_text(fontSize=13, fontWeight="bold", dy=-7).encode(text=alt.Text("households:Q", format=COUNT))
    names = place.mark_text(fontSize=10, dy=9, limit={"expr": "width / 5 - 6"}).encode(text="segment:N")
    # Letters turn where the other colour becomes the more legible.
    light = alt.condition("datum.sales_per_household > 2600", alt.value(MORE), alt.value(LESS))
    return alt.layer(cells, counts.encode(color=light), names.encode(color=light)).properties(height=320)


def _cohorts(base: alt.Chart) -> alt.LayerChart:
    place = base.encode(
        x=alt.X("months_since_first:O", title="Months since the first purchase", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("cohort:N", sort=None, title=None),
    )
    cells = place.mark_rect().encode(
        color=alt.Color("retention:Q", title="Active", scale=alt.Scale(domain=[0, 1]), legend=None),
        tooltip=[
            alt.Tooltip("cohort:N", title="First purchase in"),
            alt.Tooltip("month:N", title="Month"),
            alt.Tooltip("active_households:Q", title="Active households", format=COUNT),
            alt.Tooltip("cohort_size:Q", title="of", format=COUNT),
            alt.Tooltip("retention:Q", title="Retention", format=PERCENT),
        ],
    )
    told = place.mark_text(fontSize=11).encode(
        text=alt.Text("percent:Q", format=".0f"),
        color=alt.condition("datum.retention > 0.6", alt.value(MORE), alt.value(LESS)),
    )
    return alt.layer(cells, told).transform_calculate(percent="100 * datum.retention").properties(height=alt.Step(26))


PAGE = Page(
    name="households",
    title="Households",
    lead="Who buys and who stays. Only groups are shown: no household, and nothing that households said"
    " about themselves.",
    datasets=(Dataset("rfm"), Dataset("cohorts"), Dataset("sales_tenths")),
    filters=(Filter("segment", "Segment", "All segments", "rfm"),),
    figures=(
        Figure("Households", "rfm", total("households", "", "count")),
        Figure("Sales per household", "rfm", ratio("sales_per_household", "", "money", "sales", "households")),
        Figure("Baskets per household", "rfm", ratio("baskets_per_household", "", "decimal", "baskets", "households")),
        Figure(
            "Lapsed", "rfm", ratio("lapsed_rate", "", "percent", "lapsed", "households"), note="no purchase for 90 days"
        ),
        Figure(
            "Expected sales", "rfm", total("expected_90d_sales", "", "money"), note="of the next 90 days, estimated"
        ),
    ),
    charts=(
        Chart(
            "rfm-map",
            "Recency and frequency: where the households are",
            "In a cell: households and segment; the bluer, the more dollars per household. Scores are"
            " fifths: 5 came last"
            " and comes most often.",
            "rfm",
            (
                key("recency", "Recency", "count"),
                key("frequency", "Frequency", "count"),
                key("segment", "Segment"),
                total("households", "Households", "count"),
                total("sales", "Sales", "cents"),
                ratio("sales_per_household", "Sales per household", "cents", "sales", "households"),
                ratio("lapsed_rate", "Lapsed", "percent", "lapsed", "households"),
            ),
            _rfm,
            finding=findings.leads(
                "segment", "households", "“{first}” is the largest segment: {share} of the households"
            ),
        ),
        Chart(
            "segments",
            "What the segments buy",
            "Sales in dollars since the beginning of the data.",
            "rfm",
            (
                key("segment", "Segment"),
                total("households", "Households", "count"),
                total("sales", "Sales", "cents"),
                ratio("sales_per_household", "Sales per household", "cents", "sales", "households"),
                ratio("lapsed_rate", "Lapsed", "percent", "lapsed", "households"),
                total("expected_90d_sales", "Expected in 90 days", "cents"),
            ),
            bars("segment", "Segment", "sales", "Sales", MONEY, step=30, colour=GREEN),
            order="sales",
            finding=findings.leads("segment", "sales", "Segment “{first}” buys {share} of everything sold"),
        ),
        Chart(
            "cohort-triangle",
            "Who stays: active households by month of their first purchase",
            "Percent of the cohort that shops in the month. The data begin in January 2017, so the first"
            " cohort holds old"
            " customers, too; later ones are small.",
            "cohorts",
            (
                key("cohort", "First purchase in"),
                key("month", "Month"),
                value("months_since_first", "Months since", "count"),
                value("cohort_size", "Households", "count"),
                value("active_households", "Active", "count"),
                value("retention", "Retention", "percent"),
            ),
            _cohorts,
            finding=findings.cohorts,
        ),
        Chart(
            "tenths",
            "How much the best customers mean",
            "Share of all sales of each tenth of the households, those who buy most first.",
            "sales_tenths",
            (
                key("tenth", "Tenth", "count"),
                value("households", "Households", "count"),
                value("sales", "Sales", "cents"),
                value("sales_share", "Of all sales", "percent"),
            ),
            columns("tenth", "Tenth", "sales_share", "Share of sales", PERCENT),
            finding=findings.tenths,
        ),
    ),
)
