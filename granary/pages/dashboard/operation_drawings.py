"""The drawings of the page of operation: durations, sizes and shares over days and by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt

from granary.pages.dashboard.days import day, day_tooltip
from granary.pages.dashboard.theme import BLUE, GREEN, GREY, ORANGE, SKY

Draw = Callable[[alt.Chart], alt.Chart]

DURATION = (
    "datum.value < 60 ? format(datum.value, '~r') + ' s' : datum.value < 3600 ? format(datum.value / 60, '.1~f') +"
    " ' min' : datum.value < 86400 ? format(datum.value / 3600, '.1~f') + ' h' : format(datum.value / 86400, '.1~f') +"
    " ' d'"
)
SIZE = "format(datum.value, '.2~s') + 'B'"
ROUND = [0.01, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400]
"""Durations that stand at a logarithmic axis, in seconds; between any two powers of ten there is one."""
ENDS = alt.Scale(domain=["succeeded", "failed", "canceled", "running"], range=[BLUE, ORANGE, GREY, SKY])
STATES = alt.Scale(domain=["in time", "late"], range=[BLUE, ORANGE])
REFUSED = alt.Scale(
    domain=["open", "failed", "replayed", "superseded", "dropped"], range=[ORANGE, "#cc79a7", GREEN, SKY, GREY]
)


def number(name: str, label: str, shown: str = ",.0f") -> alt.Tooltip:
    """Return a number as a tooltip shows it."""
    return alt.Tooltip(name, type="quantitative", title=label, format=shown)


def text(name: str, label: str) -> alt.Tooltip:
    """Return a text as a tooltip shows it."""
    return alt.Tooltip(name, type="nominal", title=label)


def durations(name: str, label: str | None, **more: Any) -> alt.Y:
    """Return a logarithmic axis of durations."""
    axis = alt.Axis(values=ROUND, labelExpr=DURATION, labelOverlap=True)
    return alt.Y(name, type="quantitative", title=label, scale=alt.Scale(type="log", nice=True), axis=axis, **more)


def stacked(measure: str, label: str, by: str, scale: alt.Scale | None = None, *, sizes: bool = False) -> Draw:
    """Return a drawing of one upright bar per day, in parts."""
    axis = alt.Axis(tickCount=5, labelExpr=SIZE) if sizes else alt.Axis(tickCount=5, format=",d", tickMinStep=1)
    colour = alt.Color(by, type="nominal", title=None, scale=scale or alt.Undefined, legend=alt.Legend(columns=3))

    def draw(base: alt.Chart) -> alt.Chart:
        drawn: alt.Chart = (
            base.mark_bar()
            .encode(
                x=day("day").timeUnit("utcyearmonthdate"),
                y=alt.Y(measure, type="quantitative", title=label, axis=axis),
                color=colour,
                tooltip=[day_tooltip("day", "Day"), text(by, ""), number(measure, label, ".3~s" if sizes else ",d")],
            )
            .properties(height=220)
        )
        return drawn

    return draw


def runs(base: alt.Chart) -> alt.Chart:
    """Draw a point per run: when it began, and how long it took."""
    drawn: alt.Chart = (
        base.transform_calculate(drawn="max(datum.seconds, 0.01)")
        .mark_point(opacity=0.75, size=45)
        .encode(
            x=day("started_at"),
            y=durations("drawn", "Duration, logarithmic"),
            color=alt.Color("status:N", title=None, scale=ENDS),
            shape=alt.Shape("status:N", title=None, scale=alt.Scale(domain=ENDS.domain)),
            tooltip=[
                alt.Tooltip("started_at:N", title="Began"),
                text("kind", "Kind"),
                text("name", "Run"),
                text("status", "Ended"),
                number("seconds", "Seconds", ",.1f"),
            ],
        )
        .properties(height=260)
    )
    return drawn


def ages(base: alt.Chart) -> alt.LayerChart:
    """Draw how much of the time agreed has passed since a source brought something new."""
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        x=alt.X(
            "drawn:Q",
            title="Share of the time agreed",
            scale=alt.Scale(domainMin=0, domainMax=2),
            axis=alt.Axis(
                values=[0, 0.5, 1, 1.5, 2], labelExpr="format(datum.value, '.0%') + (datum.value < 2 ? '' : '+')"
            ),
        ),
        y=alt.Y("source_table:N", sort=None, title=None),
        color=alt.Color("state:N", title=None, scale=STATES),
        tooltip=[
            text("source_table", "Source table"),
            text("fresh_at", "Something new"),
            number("share", "Share", ".1%"),
        ],
    )
    agreed = alt.Chart(alt.NamedData(name="table")).mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(1))
    drawn: alt.LayerChart = alt.layer(bars, agreed).properties(height=alt.Step(22))
    return drawn


def scores(base: alt.Chart) -> alt.Chart:
    """Draw the quality score of each table as a point; the axis begins at the lowest."""
    drawn: alt.Chart = (
        base.mark_point(size=70)
        .encode(
            x=alt.X(
                "quality_score:Q",
                title="Quality score",
                scale=alt.Scale(zero=False, domainMax=1, nice=True),
                axis=alt.Axis(format=".4~%", tickCount=4),
            ),
            y=alt.Y("relation:N", sort=None, title=None, axis=alt.Axis(grid=True)),
            tooltip=[text("relation", "Table"), number("quality_score", "Score", ".2%")],
        )
        .properties(height=alt.Step(22))
    )
    return drawn


def throughput(base: alt.Chart) -> alt.Chart:
    """Draw a line per stage: rows in a second of work, by day."""
    drawn: alt.Chart = (
        base.transform_filter("datum.rows_per_second > 0")
        .mark_line(point=True)
        .encode(
            x=day("day"),
            y=alt.Y(
                "rows_per_second:Q",
                title="Rows per second, logarithmic",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format="~s", values=[10**power for power in range(-2, 9)]),
            ),
            color=alt.Color("stage:N", title=None),
            tooltip=[day_tooltip("day", "Day"), text("stage", "Stage"), number("rows_per_second", "Rows per second")],
        )
        .properties(height=240)
    )
    return drawn


def latency(base: alt.Chart) -> alt.FacetChart:
    """Draw for each source the median and the 95th percentile of its latency, by day."""
    drawn: alt.FacetChart = (
        base.transform_calculate(p50="max(datum.event_seconds_p50, 0.01)", p95="max(datum.event_seconds_p95, 0.01)")
        .transform_fold(["p50", "p95"], as_=["percentile", "drawn"])
        .mark_line(point={"size": 30})
        .encode(
            x=day("day").axis(tickCount=3, format="%b %d", labelOverlap=True),
            y=durations("drawn", None),
            color=alt.Color("percentile:N", title=None),
            tooltip=[day_tooltip("day", "Day"), text("percentile", "Percentile"), number("drawn", "Seconds", ",.1f")],
        )
        .properties(height=110, width=140)
        .facet(facet=alt.Facet("source:N", title=None), columns=4)
    )
    return drawn


def trends(base: alt.Chart) -> alt.FacetChart:
    """Draw for each of the costliest the median duration of its days, each on a scale of its own."""
    drawn: alt.FacetChart = (
        base.mark_line(point={"size": 30})
        .encode(
            x=day("day").axis(tickCount=3, format="%b %d", labelOverlap=True),
            y=alt.Y("seconds_p50:Q", title=None, axis=alt.Axis(tickCount=3, labelExpr=DURATION)),
            tooltip=[text("name", "Name"), day_tooltip("day", "Day"), number("seconds_p50", "Seconds", ",.2f")],
        )
        .properties(height=80, width=140)
        .facet(
            facet=alt.Facet(
                "name:N",
                title=None,
                sort=alt.EncodingSortField("place", op="min"),
                header=alt.Header(labelLimit=170),
            ),
            columns=4,
        )
        .resolve_scale(y="independent")
    )
    return drawn


def bars(name: str, measure: str, label: str, axis: str, *, by: str = "", scale: alt.Scale | None = None) -> Draw:
    """Return a drawing of one horizontal bar per name, in the order of the rows; `axis` makes the labels of a value."""
    colour = (
        {"color": alt.Color(by, type="nominal", title=None, scale=scale or alt.Undefined, legend=alt.Legend(columns=3))}
        if by
        else {}
    )

    def draw(base: alt.Chart) -> alt.Chart:
        drawn: alt.Chart = (
            base.mark_bar()
            .encode(
                x=alt.X(
                    measure,
                    type="quantitative",
                    title=label,
                    axis=alt.Axis(tickCount=3, labelExpr=axis, labelOverlap=True),
                ),
                y=alt.Y(name, type="nominal", sort=None, title=None),
                tooltip=[text(name, ""), *([text(by, "")] if by else []), number(measure, label, ",.1~f")],
                **colour,
            )
            .properties(height=alt.Step(22))
        )
        return drawn

    return draw
