"""The SQL of a profile: one pass over all rows, and one over those that values are counted in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.profiling.profile import TOP
from granary.warehouse.connection import quote_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.profiling.profile import Kind

NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
TIMES = ("date", "timestamp")
FINITE = 1.7e308
"""What is beyond it, NaN and the infinities of numbers and dates, has no place among percentiles."""
LONGEST_TOP = 60
"""Characters of a common value that are shown."""


@dataclass(frozen=True)
class Counted:
    """A column as it is counted: its name, its Postgres type, what it is, and whether its values may be shown."""

    name: str
    type: str
    personal: bool

    @property
    def kind(self) -> Kind:
        """What can be computed of it."""
        plain = self.type.partition("(")[0].strip()
        if plain in NUMBERS:
            return "number"
        return "time" if plain.startswith(TIMES) and not self.type.endswith("[]") else "text"

    @property
    def expression(self) -> str:
        """What is grouped by; types without an equality of their own (json) are compared as text."""
        quoted = quote_name(self.name)
        return quoted if self.kind != "text" or self.type in ("text", "boolean", "uuid") else f"{quoted}::text"

    @property
    def number(self) -> str:
        """The value on the scale of its percentiles."""
        if self.kind == "time":
            return "extract(epoch from {0})::double precision"
        return "{0}::double precision"


def totals(relation: str, columns: Sequence[Counted]) -> str:
    """Return the first pass, over all rows: row count, and per column its values, least and greatest one as text.

    Three result columns per column; the last two are null for personal ones and for text.
    """
    parts = ["count(*)"]
    for column in columns:
        quoted = quote_name(column.name)
        parts.append(f"count({quoted})")
        shows = column.kind != "text" and not column.personal
        parts += [f"min({quoted})::text", f"max({quoted})::text"] if shows else ["null::text", "null::text"]
    return f"select {', '.join(parts)} from {relation}"


def counts(relation: str, columns: Sequence[Counted]) -> str:
    """Return the second pass: all columns' values are counted at once, by grouping sets.

    The rows of the answer: what ("d", "t" or "q"), the column's place from 0, and two numbers and a text.
    d: distinct values and those that come once. t: a common value's count, and the value. q: a value on the scale of
    the percentiles, and the highest percent that it is the percentile of, by the definition of percentile_disc: the
    first value whose rank reaches that share of the rows.
    """
    names = [f"c{place}" for place in range(len(columns))]
    inner = ", ".join(f"{column.expression} as {name}" for name, column in zip(names, columns, strict=True))
    which = _pick(names, [str(place) for place in range(len(columns))])
    texts = _pick(
        names,
        ["null" if c.personal else f"left({n}::text, {LONGEST_TOP})" for n, c in zip(names, columns, strict=True)],
    )
    numbers = _pick(
        names,
        [
            "null::double precision" if column.personal or column.kind == "text" else column.number.format(name)
            for name, column in zip(names, columns, strict=True)
        ],
    )
    empty = _pick(names, [f"{name} is null" for name in names])
    return f"""
with counted as materialized (
    select {which} as i, {texts} as v, {numbers} as x, {empty} as is_null, count(*) as n
    from (select {inner} from {relation}) as given
    group by grouping sets ({", ".join(f"({name})" for name in names)})
), ranked as (
    select i, v, n, row_number() over (partition by i order by n desc, v) as place
    from counted where v is not null
), summed as (
    select i, x, n, sum(n) over (partition by i order by x) as upto, sum(n) over (partition by i) as total
    from counted where x between {-FINITE} and {FINITE}
)
select 'd', i, count(*)::double precision, (count(*) filter (where n = 1))::double precision, null::text
from counted where not is_null group by i
union all
select 't', i, n::double precision, null, v from ranked where place <= {TOP}
union all
select 'q', i, x, floor(100 * upto / total)::double precision, null from summed
where upto = n or floor(100 * upto / total) > floor(100 * (upto - n) / total)
"""


def _pick(names: Sequence[str], values: Sequence[str]) -> str:
    """Return the value that belongs to the grouping set at hand."""
    whens = " ".join(f"when grouping({name}) = 0 then {value}" for name, value in zip(names, values, strict=True))
    return f"case {whens} end"


def repeats(relation: str, columns: Sequence[str]) -> str:
    """Return the query that finds a combination of columns that comes twice, if one does."""
    key = ", ".join(map(quote_name, columns))
    return f"select 1 from {relation} group by {key} having count(*) > 1 limit 1"
