"""What a page is made of: filters, figures and charts over data sets. Data only, no logic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    import altair as alt

Format = Literal["text", "count", "decimal", "money", "cents", "percent", "times", "seconds", "bytes"]
"""How people read a value: 1,234 · 1,234.56 · $1,234 · $1,234.56 · 12.3 % · 1.23 times · 2 h 5 min · 1.2 GB."""


@dataclass(frozen=True)
class Dataset:
    """The rows of `queries/<name>.sql`, or else of `sql`.

    `totals` names columns that are null in rows of their own, which hold the total: what cannot be added up, such as
    different customers. `role` reads it; without the relation `needs` there are no rows.
    """

    name: str
    totals: tuple[str, ...] = ()
    role: str = "analyst"
    needs: str | None = None
    sql: str = ""


STATE = Dataset(
    "state",
    role="transformer",
    needs="ops.publishes",
    sql="""\
-- Up to which business date the marts have data, and when they were last published.
select
    max(last_date) as data_up_to,
    to_char(max(finished_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as published_at
from ops.publishes
where schema_name = 'marts'
""",
)
"""Up to which day the marts have data, and when they were published: each page says it."""


@dataclass(frozen=True)
class Column:
    """A column of a chart's rows: a key to group by, a sum, a ratio of two sums, or a value as it is."""

    name: str
    label: str
    format: Format = "text"
    kind: Literal["key", "sum", "ratio", "value"] = "key"
    of: tuple[str, str] = ("", "")


def key(name: str, label: str, format: Format = "text") -> Column:  # noqa: A002 - the field's name
    """Return a column to group by."""
    return Column(name, label, format)


def total(name: str, label: str, format: Format) -> Column:  # noqa: A002
    """Return a column that is added up within a group."""
    return Column(name, label, format, "sum")


def value(name: str, label: str, format: Format) -> Column:  # noqa: A002
    """Return a column that is taken as it is: its group has one row."""
    return Column(name, label, format, "value")


def ratio(name: str, label: str, format: Format, above: str, below: str) -> Column:  # noqa: A002
    """Return a column that divides two sums."""
    return Column(name, label, format, "ratio", (above, below))


@dataclass(frozen=True)
class Filter:
    """A choice among the values of a column; it acts on every data set that has the column."""

    column: str
    label: str
    everything: str
    dataset: str
    latest: bool = False
    """Begin with the last value instead of with everything."""


@dataclass(frozen=True)
class Figure:
    """One number, and the one to compare it with."""

    label: str
    dataset: str
    column: Column
    previous: Column | None = None
    note: str = ""
    change: Literal["relative", "points"] = "relative"


Found = Sequence[Mapping[str, Any]]
"""The rows of a data set by the names of its columns, as a page shows them when it opens."""


@dataclass(frozen=True)
class Chart:
    """A drawing of grouped rows; the same rows are in its table and its download."""

    name: str
    title: str
    note: str
    dataset: str
    columns: tuple[Column, ...]
    draw: Callable[[alt.Chart], alt.Chart | alt.LayerChart | alt.FacetChart] | None
    """Draws the rows; None shows the table alone."""
    finding: Callable[[Found], str | None] = lambda _: None
    """Returns what the rows say, as a sentence; it is the heading as long as no filter is chosen, else the title is."""
    ignores: tuple[str, ...] = ()
    """Filters that do not act here."""
    order: str | None = None
    limit: int | None = None
    wide: bool = False
    empty: str = "Nothing to show for this choice."


@dataclass(frozen=True)
class Page:
    """One page: its file is `<name>.html`."""

    name: str
    title: str
    lead: str
    datasets: tuple[Dataset, ...]
    charts: tuple[Chart, ...]
    figures: tuple[Figure, ...] = ()
    filters: tuple[Filter, ...] = field(default=())
