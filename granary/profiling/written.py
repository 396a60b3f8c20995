"""How text is written that is something else: dates, amounts, shares and times in the ways of people and countries.

Such text lands as it was sent; what it is read as is offered in staging, beside it (`granary/scaffold/dbt.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from granary.profiling.inference import infer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

ENOUGH = 0.8
"""The least share of the values that must be written so."""

Kind = Literal["date", "timestamp", "time", "number", "percent", "boolean"]

Way = tuple[Kind, str, pa.Array, int]
"""A style of a kind, which of the distinct texts are written so, and how many values these are."""

SIGNS = "[$€£¥₹]|EUR|USD|GBP|CHF"
TIMES = r"([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?|(0?[1-9]|1[0-2]):[0-5][0-9](:[0-5][0-9])? ?[AaPp][Mm]"
DAYS = {
    "ymd": r"[0-9]{4}[-/.](0?[1-9]|1[0-2])[-/.](0?[1-9]|[12][0-9]|3[01])",
    "dmy": r"(0?[1-9]|[12][0-9]|3[01])[-/.](0?[1-9]|1[0-2])[-/.][0-9]{4}",
    "mdy": r"(0?[1-9]|1[0-2])[-/.](0?[1-9]|[12][0-9]|3[01])[-/.][0-9]{4}",
    "dMy": r"(0?[1-9]|[12][0-9]|3[01])[- ][A-Za-z]{3,9}[- ,]+[0-9]{4}",
    "Mdy": r"[A-Za-z]{3,9}[- ](0?[1-9]|[12][0-9]|3[01])[- ,]+[0-9]{4}",
}
"""Days by the order of their parts; M is a month's English name."""
TRUTHS = (("yes", "no"), ("y", "n"), ("true", "false"), ("t", "f"), ("on", "off"), ("ja", "nein"), ("oui", "non"))


@dataclass(frozen=True)
class Written:
    """What a column of text can be read as.

    Attributes:
        kind: what it becomes in staging.
        style: how it is written: the order of a date's parts; the decimal mark of a number ("." or ","); the word for
            true and the one for false.
        share: the share of the values (empty ones left out) that can be read so.
        unsure: whether the values do not tell the style apart from another one: 03/04/2023, 1,234.
        torn: whether some values can only be of another style: 31/12/2023 beside 12/31/2023.
        cents: whether a number has no more than two decimals, so that $1.000 may be a thousand and is not read.
    """

    kind: Kind
    style: str
    share: float
    unsure: bool = False
    torn: bool = False
    cents: bool = False

    @property
    def function(self) -> str:
        """The function of the server that reads it."""
        return f"ops.text_as_{'amount' if self.cents else self.kind}"


def written(values: pa.ChunkedArray, prefer: Collection[str] = ()) -> Written | None:
    """Return what most values of a column of text are, if they can be read as something else; else None.

    Args:
        values: text; null and empty text say nothing.
        prefer: styles that other columns of the table have for certain, for values that do not tell.
    """
    counted = pc.value_counts(pc.utf8_trim_whitespace(values.drop_null()))
    counted = counted.filter(pc.not_equal(counted.field("values"), ""))
    texts, times = counted.field("values"), counted.field("counts")
    total = pc.sum(times).as_py() or 0
    found = [(kind, style, mask, pc.sum(times.filter(mask)).as_py() or 0) for kind, style, mask in _ways(texts)]
    fitting = [one for one in found if total and one[3] >= ENOUGH * total and not _plain_codes(one[0], texts, one[2])]
    if not fitting:
        return _torn(found, times, total)
    # A preferred style first, then the one that most values have, then the order of the ways.
    kind, style, mask, most = max(fitting, key=lambda one: (one[3], one[1] in prefer))
    rivals = [other for other in found if other[0] == kind and other[1] != style]
    torn = any(pc.any(pc.and_(other[2], pc.invert(mask))).as_py() for other in rivals)
    said = kind in ("date", "timestamp") or pc.any(pc.match_substring_regex(texts.filter(mask), "[.,]")).as_py()
    tied = said and any(other[3] == most for other in rivals) and style not in prefer
    cents = kind == "number" and _has_cents(texts.filter(mask), style)
    if cents:
        most -= pc.sum(times.filter(pc.and_(mask, _match(texts, thousand(style))))).as_py() or 0
    return Written(kind, style, most / total, unsure=tied, torn=torn, cents=cents)


def _torn(found: Sequence[Way], times: pa.Array, total: int) -> Written | None:
    """Return the kind that most values are in several styles, none of which most have: 2023-01-15, 31.12.2023."""
    for kind in dict.fromkeys(one[0] for one in found):
        styles = [one for one in found if one[0] == kind and one[3]]
        if len(styles) < 2:  # noqa: PLR2004
            continue
        _, style, _, most = max(styles, key=lambda one: one[3])
        either = pc.sum(times.filter(reduce(pc.or_, (one[2] for one in styles)))).as_py()
        if either > most and either >= ENOUGH * total:
            return Written(kind, style, most / total, torn=True)
    return None


def _has_cents(texts: pa.Array, mark: str) -> bool:
    """Return whether numbers surely have this decimal mark, and no more than two decimals.

    Where more of the different ones have three (3.459) than one or two, they are fractions that end in no zeros.
    """
    sure = texts.filter(pc.invert(_match(texts, thousand(mark))))
    longer = pc.any(_match(sure, f"[{mark}][0-9]{{3}}")).as_py()
    marked = pc.sum(_match(sure, "[0-9][., '][0-9]")).as_py() or 0
    return not longer and marked > 0 and len(texts) - len(sure) <= marked


def thousand(mark: str) -> str:
    """Return the pattern of a number that is a thousand where the mark stands before thousands: 1.000."""
    return f"^[^0-9]*[1-9][0-9]{{0,2}}[{mark}][0-9]{{3}}[^0-9]*$"


def _plain_codes(kind: Kind, texts: pa.Array, mask: pa.Array) -> bool:
    """Return whether numbers have no more to them than digits and a point, and still are no numbers: 007, 1.10."""
    if kind != "number":
        return False
    matched = texts.filter(mask)
    plain = pc.all(pc.match_substring_regex(matched, r"^[0-9.]+$")).as_py()
    return bool(plain) and infer(pa.chunked_array([matched])) == pa.string()


def _ways(texts: pa.Array) -> Iterator[tuple[Kind, str, pa.Array]]:
    """Yield each way of writing with the mask of the texts that are written so."""
    low = pc.utf8_lower(texts)
    for yes, no in TRUTHS:
        both = pc.is_in(pa.array([yes, no]), low)
        if pc.all(both).as_py():
            yield "boolean", f"{yes}/{no}", pc.is_in(low, pa.array([yes, no]))
    for order, day in DAYS.items():
        yield "date", order, _real(texts, f"^{day}$", order)
        yield "timestamp", order, _real(texts, f"^{day}[ T]+({TIMES})$", order)
    yield "time", "", _match(texts, f"^({TIMES})$")
    for mark, thousands in ((".", ","), (",", ".")):
        yield "percent", mark, _match(texts, f"^[-+]?{number(mark, thousands)} ?%$")
        yield "number", mark, _match(texts, f"^{amount(mark, thousands)}$")


def number(mark: str, thousands: str) -> str:
    """Return the pattern of a number without its sign, for RE2 and for Postgres: grouped by threes, or not at all."""
    fraction = f"(\\{mark}[0-9]+)?"
    return f"([1-9][0-9]{{0,2}}([\\{thousands} '][0-9]{{3}})+{fraction}|(0|[1-9][0-9]*){fraction})"


def amount(mark: str, thousands: str) -> str:
    """Return the pattern of a number that may have a sign, a currency, or brackets that make it negative."""
    plain = number(mark, thousands)
    return f"([-+]? ?({SIGNS})? ?[-+]?{plain} ?({SIGNS})?|\\(({SIGNS})?{plain}\\))"


def _match(texts: pa.Array, pattern: str) -> pa.Array:
    return pc.match_substring_regex(texts, pattern)


MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _real(texts: pa.Array, pattern: str, order: str) -> pa.Array:
    """Return which texts are days that there are: 31/02/2023 is none."""
    mask = _match(texts, pattern)
    if not pc.any(mask).as_py():
        return mask
    known: dict[str, bool] = {}
    for text in texts.filter(mask).to_pylist():
        parts = re.split(r"[^A-Za-z0-9]+", text)[:3]
        of = dict(zip(order.lower(), parts, strict=False))
        try:
            month = MONTHS.index(of["m"][:3].lower()) + 1 if "M" in order else int(of["m"])
            date(int(of["y"]), month, int(of["d"]))
        except ValueError:
            continue
        known[text] = True
    return pc.is_in(texts, pa.array(list(known), pa.string()))
