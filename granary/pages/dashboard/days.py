"""Days in charts: an axis of them, and a day as a tooltip shows it."""

from __future__ import annotations

import altair as alt

YEAR = "datum.index === 0 || utcmonth(datum.value) === 0 ? utcFormat(datum.value, '%Y') : ''"
DAYS = alt.Axis(labelExpr=f"[utcFormat(datum.value, '%b %d'), {YEAR}]", tickCount=8, labelOverlap=True)
"""An axis of days; the year stands under the first label and under January."""


def day(field: str, label: str | None = None) -> alt.X:
    """Return a horizontal axis of days; they are calendar days, so no time zone may move them."""
    return alt.X(
        field,
        type="temporal",
        scale=alt.Scale(type="utc"),
        title=label,
        axis=DAYS,
    )


def day_tooltip(field: str, label: str) -> alt.Tooltip:
    """Return a day as a tooltip shows it."""
    return alt.Tooltip(field, type="temporal", title=label, timeUnit="utcyearmonthdate", format="%a %Y-%m-%d")
