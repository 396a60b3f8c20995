"""Drawings that several pages use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from granary.pages.dashboard.parts import ratio
from granary.pages.dashboard.theme import BLUE

if TYPE_CHECKING:
    from collections.abc import Callable

MONEY, SHORT_MONEY, COUNT, PERCENT = "$,.2f", "$,.2~s", ",.0f", ".1%"

PRIVATE_LABEL_SHARE = ratio(
    "private_label_sales_share", "Private-label share of sales", "percent", "private_value", "sales_without_fuel"
)


def bars(
    name: str, label: str, measure: str, measure_label: str, number: str, *, step: int = 24, colour: str = BLUE
) -> Callable[[alt.Chart], alt.Chart]:
    """Return a drawing of one horizontal bar per name, in the order of the rows."""

    def draw(base: alt.Chart) -> alt.Chart:
        return (
            base.mark_bar(color=colour, cornerRadiusEnd=2)
            .encode(
                x=alt.X(
                    measure, type="quantitative", title=measure_label, axis=alt.Axis(format=_axis(number), tickCount=4)
                ),
                y=alt.Y(name, type="nominal", sort=None, title=None),
                tooltip=[
                    alt.Tooltip(name, type="nominal", title=label),
                    alt.Tooltip(measure, type="quantitative", title=measure_label, format=number),
                ],
            )
            .properties(height=alt.Step(step))
        )

    return draw


def columns(name: str, label: str, measure: str, measure_label: str, number: str) -> Callable[[alt.Chart], alt.Chart]:
    """Return a drawing of one upright bar per name, in the order of the rows."""

    def draw(base: alt.Chart) -> alt.Chart:
        return (
            base.mark_bar(cornerRadiusEnd=2)
            .encode(
                x=alt.X(name, type="nominal", sort=None, title=None, axis=alt.Axis(labelAngle=-40)),
                y=alt.Y(
                    measure, type="quantitative", title=measure_label, axis=alt.Axis(format=_axis(number), tickCount=5)
                ),
                tooltip=[
                    alt.Tooltip(name, type="nominal", title=label),
                    alt.Tooltip(measure, type="quantitative", title=measure_label, format=number),
                ],
            )
            .properties(height=240)
        )

    return draw


def _axis(number: str) -> str:
    return SHORT_MONEY if number.startswith("$") else ".0%" if number.endswith("%") else number.replace(".2f", ".2~f")
