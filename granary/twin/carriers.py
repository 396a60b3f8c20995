"""How values of each of Postgres' types are carried in Parquet, so that they come back as they were.

A type with a counterpart of the same values is carried as that; every other one as Postgres' own text of it. What
neither can hold makes a mart one that the twin refuses, with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from granary.warehouse.connection import quote_name

TEXT = "VARCHAR"
SAME = {
    "boolean": "BOOLEAN",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "text": TEXT,
    "character varying": TEXT,
    "date": "DATE",
    "uuid": "UUID",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMPTZ",
}
"""Types whose values, order and arithmetic are the same in both."""
SAME_VALUES = {"real": "FLOAT", "double precision": "DOUBLE", "time without time zone": "TIME", "bytea": "BLOB"}
"""Types whose values are the same; sums of them hang on the order of the rows, or their functions differ."""
DIGITS = 38
"""What a decimal holds."""
MODIFIER = re.compile(r"\((\d+)(?:,(-?\d+))?\)")
LATEST = "294246-12-31"
"""Later times are none in DuckDB."""


@dataclass(frozen=True)
class Column:
    """A column of a mart: `kind` is its type as Postgres writes it, `carrier` DuckDB's in which it is kept.

    `is_same`: a query gives the same with it in both.
    """

    name: str
    kind: str
    carrier: str
    is_same: bool

    @property
    def sql(self) -> str:
        """The name as SQL."""
        return quote_name(self.name)

    @property
    def taken(self) -> str:
        """An expression of Postgres for the value as it is carried."""
        as_text = self.carrier == TEXT and self.kind != "text"
        return f"cast({self.sql} as text) as {self.sql}" if as_text else self.sql

    @property
    def problem(self) -> str | None:
        """A condition of Postgres for values that cannot be carried, None if all can."""
        if self.carrier.startswith("DECIMAL"):
            return f"{self.sql} = 'NaN'"
        if self.carrier.startswith("TIMESTAMP"):
            return f"{self.sql} > '{LATEST}' and {self.sql} < 'infinity'"
        return None

    @property
    def given_back(self) -> str:
        """An expression of DuckDB for the value as a text that Postgres reads."""
        if self.carrier == "BLOB":
            return rf"'\x' || hex({self.sql})"
        text = f"cast({self.sql} as varchar)"
        return f"replace({text}, ' (BC)', ' BC')" if self.carrier.startswith(("DATE", "TIME")) else text


def column(name: str, kind: str) -> Column:
    """Return how a column of this type is carried.

    Args:
        name: of the column.
        kind: its type as Postgres' format_type writes it.
    """
    if kind in {"numeric", "character"}:
        return Column(name, kind, TEXT, is_same=False)
    base, modifier = MODIFIER.sub("", kind), MODIFIER.search(kind)
    if base == "numeric" and modifier:
        precision, scale = int(modifier[1]), int(modifier[2] or 0)
        if 0 <= scale <= precision <= DIGITS:
            return Column(name, kind, f"DECIMAL({precision},{scale})", is_same=True)
    elif base in SAME:
        return Column(name, kind, SAME[base], is_same=True)
    elif base in SAME_VALUES:
        return Column(name, kind, SAME_VALUES[base], is_same=False)
    return Column(name, kind, TEXT, is_same=False)
