"""A profile: what a table's columns hold, as it is shown, stored, and compared with the one before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Container

PERCENTS = 101
"""Percentiles kept of each column of numbers or times: 0 (the least value) to 100 (the greatest)."""
TOP = 10
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

Kind = Literal["number", "time", "text"]


@dataclass(frozen=True)
class ColumnProfile:
    """One column.

    Attributes:
        name: the column.
        type: its Postgres type.
        kind: number, time (date or timestamp) or text (everything else).
        nulls: rows without a value; exact.
        distinct: different values; an estimate if the profile is of a sample.
        minimum: the least value as text, None if the column is personal or has none; exact.
        maximum: the greatest one.
        percentiles: 101 values: numbers as they are, times as seconds since 1970; empty if personal or text.
        top: the commonest values with their share of the rows that have one; empty if personal.
        personal: whether it holds personal data, whose values a profile does not keep.
    """

    name: str
    type: str
    kind: Kind
    nulls: int
    distinct: int
    minimum: str | None = None
    maximum: str | None = None
    percentiles: tuple[float, ...] = ()
    top: tuple[tuple[str, float], ...] = ()
    personal: bool = False

    def percentile(self, percent: int) -> float | None:
        """Return a percentile, None if the column has none."""
        return self.percentiles[percent] if self.percentiles else None

    def shown(self, number: float | None) -> str:
        """Return a percentile as people read it: a number, a date or a time."""
        if number is None:
            return ""
        if self.kind != "time":
            return f"{number:,.0f}" if number == int(number) else f"{number:,.4g}"
        moment = EPOCH + timedelta(seconds=number)
        return f"{moment:%Y-%m-%d}" if self.type == "date" else f"{moment:%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Profile:
    """A table at a moment. `sampled` is the number of rows that distinct values, percentiles and top values are of."""

    relation: str
    rows: int
    sampled: int
    columns: tuple[ColumnProfile, ...]
    keys: tuple[tuple[str, ...], ...] = ()
    load_id: int | None = None
    profiled_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def exact(self) -> bool:
        """Whether everything was computed on all rows."""
        return self.sampled == self.rows

    def column(self, name: str) -> ColumnProfile | None:
        """Return a column, None if there is none of this name."""
        return next((column for column in self.columns if column.name == name), None)

    def without(self, personal: Container[str]) -> Profile:
        """Return it without the values of these columns, as if they had been personal when it was taken."""
        bare: dict[str, Any] = {"minimum": None, "maximum": None, "percentiles": (), "top": (), "personal": True}
        return replace(self, columns=tuple(replace(c, **bare) if c.name in personal else c for c in self.columns))

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self) | {"profiled_at": self.profiled_at.isoformat()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Profile:
        """Return the profile that `to_json` wrote."""
        columns = tuple(
            ColumnProfile(
                **{
                    **column,
                    "percentiles": tuple(column["percentiles"]),
                    "top": tuple((text, share) for text, share in column["top"]),
                }
            )
            for column in value["columns"]
        )
        return cls(
            **{
                **value,
                "columns": columns,
                "keys": tuple(tuple(key) for key in value["keys"]),
                "profiled_at": datetime.fromisoformat(value["profiled_at"]),
            }
        )
