"""A mart to be: what it takes from the model it is made from, as that model's contract and tests declare it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import is_mart, meta
from granary.profiling.names import is_code, is_share, looks_like_key
from granary.scaffold.keywords import KEYWORDS
from granary.scaffold.names import LOAD_COLUMNS, LONGEST, SOURCE, singular
from granary.warehouse.errors import GranaryError, UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUSINESS_DATE = "business_date"
"""The column that every mart with a moment gets: the day of it, in the time zone of the project."""
OF_SAMPLE = re.compile(r"[^:]*: (never empty|always empty|empty in)\b")
"""How descriptions begin that `granary add-source` wrote of a sample; see `descriptions.column_says`."""
DAYS = re.compile(r"date|timestamp.*")
ADDED = {
    "smallint": "bigint", "integer": "bigint", "bigint": "numeric", "numeric": "numeric", "real": "double precision",
    "double precision": "double precision",
}  # fmt: skip
"""Types of numbers, and of their sums."""
FRACTION = re.compile(r"numeric\(\d+, ?[1-9]\d*\)")
EXACT = ("smallint", "integer", "bigint", "numeric")
COUNT = "count(*)"


@dataclass(frozen=True)
class MartColumn:
    """A column of a mart: an expression over the model's row, and what the model says of it."""

    name: str
    type: str
    expression: str
    description: str
    meta: Mapping[str, Any]
    required: bool = False
    is_sum: bool = False
    """Whether the expression is over all rows of the group."""


@dataclass(frozen=True)
class PlannedMart:
    """A mart to be; `grouped` says that the model's rows are added up by the grain."""

    name: str
    model: str
    grain: tuple[str, ...]
    columns: tuple[MartColumn, ...]
    grouped: bool
    day: str
    """The column that says which day a row belongs to, or an empty string."""
    left_out: tuple[str, ...] = ()
    """The model's columns that are neither grain nor added up."""

    @property
    def rows(self) -> str:
        """What the model's rows are: orders, of stg_bakery__orders."""
        name = self.model.rpartition("__")[2].removeprefix("fct_").removeprefix("dim_").removeprefix("stg_")
        return f"{name}_rows" if name in KEYWORDS or name == self.name else name

    @property
    def sums(self) -> list[str]:
        """The model's columns that are added up."""
        return [column.name for column in self.columns if column.is_sum and column.expression != COUNT]

    @property
    def measures(self) -> list[str]:
        """Exact numbers that add up over rows: what the records of publishes keep of each month."""
        return [
            column.name
            for column in self.columns
            if column.name not in self.grain
            and column.type.startswith(EXACT)
            and adds_up(column.name, column.type)
            and not column.meta
        ]


def adds_up(name: str, kind: str) -> bool:
    """Return whether a column is a number that counts or measures something, and is no share of something else.

    What is named like a key is one if it is whole: `price_number` is how staging calls a price that is text.
    """
    is_key = looks_like_key(name) and kind != "numeric" and FRACTION.fullmatch(kind) is None
    return not is_key and not is_code(name) and not is_share(name)


def plan(
    manifest: Mapping[str, Any], name: str, model: str, grain: Sequence[str], day: str | None = None
) -> PlannedMart:
    """Decide on a mart.

    Args:
        manifest: dbt's.
        name: the mart.
        model: the model that it is made from.
        grain: the columns that identify a row of the mart, of the model or `business_date`. If they identify a row of
            the model too, its rows are taken as they are, else they are added up.
        day: the column that says which day a row belongs to; None for the first one that could.

    Raises:
        UsageError: there is no such model or column.
        GranaryError: the name is taken or none, or the model declares no types.
    """
    _check_name(manifest, name)
    node = _model(manifest, model)
    columns = {one: column for one, column in node["columns"].items() if one not in LOAD_COLUMNS}
    if not columns or any(not column.get("data_type") for column in columns.values()):
        where = str(node["original_file_path"])
        raise GranaryError(
            f"the model {model} does not say what types its columns have", where, "write their data_type"
        )
    types = {one: str(column["data_type"]) for one, column in columns.items()}
    moment = _day(types, columns, day, model, optional=name.startswith("dim_") and BUSINESS_DATE not in grain)
    dated = _dated(moment, types, columns, is_wanted=BUSINESS_DATE in grain)
    known = [*types, *([dated.name] if dated else [])]
    for column in grain:
        if column not in known:
            raise unknown("column", column, known, model)
    grouped = not _identifies(manifest, node, {moment if one == BUSINESS_DATE else one for one in grain})
    taken = {one: MartColumn(one, types[one], one, description(columns[one]), meta(columns[one])) for one in types}
    if dated:
        taken[dated.name] = dated
    required = [_required(taken[one]) for one in grain]
    if grouped:
        rest = [_count(name, model), *(_sum(column) for column in taken.values() if _is_summed(column, grain))]
    else:
        rest = [column for one, column in taken.items() if one not in grain]
    day_column = dated.name if dated else moment or ""
    columns_made = (*required, *rest)
    if day_column not in [column.name for column in columns_made]:
        day_column = ""
    left_out = tuple(one for one in types if one != moment and one not in [column.name for column in columns_made])
    return PlannedMart(name, model, tuple(grain), columns_made, grouped, day_column, left_out)


def description(column: Mapping[str, Any]) -> str:
    """Return the description of a column in one line; of one that only says what a sample showed, its name in words."""
    text = " ".join(str(column.get("description") or "").split())
    name = str(column["name"]).replace("_", " ").capitalize()
    return f"{name}." if not text or OF_SAMPLE.match(text) else text


def _check_name(manifest: Mapping[str, Any], name: str) -> None:
    if SOURCE.fullmatch(name) is None or len(name) > LONGEST - len("_grain"):
        todo = f"use lower case letters, digits and single underscores, at most {LONGEST - len('_grain')} characters"
        raise UsageError(f"{name[:60]!r} cannot be the name of a mart", todo=todo)
    if name in KEYWORDS:
        raise UsageError(f"{name!r} means something in SQL", todo="choose another name, such as fct_" + name)
    if any(node["name"] == name for node in manifest["nodes"].values()):
        raise GranaryError(f"there is a model {name!r} already", todo="choose another name, or edit that one")


def _model(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    models: dict[str, Mapping[str, Any]] = {
        str(node["name"]): node
        for node in manifest["nodes"].values()
        if node["resource_type"] in ("model", "snapshot", "seed") and node["config"].get("schema") != "ops"
    }
    if name not in models:
        offered = [one for one, node in models.items() if not is_mart(node)]
        raise unknown(
            "model", name, models, todo=f"choose one of {', '.join(sorted(offered)) or 'none: add a source first'}"
        )
    found: Mapping[str, Any] = models[name]
    return found


def _day(
    types: Mapping[str, str], columns: Mapping[str, Any], given: str | None, model: str, *, optional: bool
) -> str | None:
    """Return the column with the day of a row: the given one, business_date, or the first that is never null."""
    days = [one for one, kind in types.items() if DAYS.fullmatch(kind) and not meta(columns[one]).get("personal")]
    if given is not None:
        if given not in days:
            raise unknown("date or time", given, days, model)
        return given
    if optional or not days:
        return None
    return BUSINESS_DATE if BUSINESS_DATE in days else days[0]


def _dated(
    moment: str | None, types: Mapping[str, str], columns: Mapping[str, Any], *, is_wanted: bool
) -> MartColumn | None:
    """Return the column business_date of a moment; a date is one already, and is called so where that is wanted."""
    if moment is None or moment == BUSINESS_DATE:
        return None
    if types[moment] == "date":
        what = f"The day of {moment}."
        return MartColumn(BUSINESS_DATE, "date", moment, what, meta(columns[moment])) if is_wanted else None
    zoned = types[moment] == "timestamp with time zone"
    zone = " at time zone '{{ var(\"time_zone\") }}'" if zoned else ""
    where = " in the time zone of the project" if zoned else ""
    return MartColumn(
        BUSINESS_DATE, "date", f"cast({moment}{zone} as date)", f"The day of {moment}{where}.", meta(columns[moment])
    )


def _identifies(manifest: Mapping[str, Any], node: Mapping[str, Any], grain: set[str | None]) -> bool:
    """Return whether these columns are, by a test or an index of the model, in one row of it only."""
    for test in manifest["nodes"].values():
        generic = test.get("test_metadata") or {}
        if test.get("attached_node") != node["unique_id"] or not generic:
            continue
        arguments = generic["kwargs"]
        together = arguments.get("combination_of_columns") or (
            arguments.get("columns") if generic["name"] == "unique_by_index" else None
        )
        alone = [arguments.get("column_name")] if generic["name"] == "unique" else None
        if (key := together or alone) and set(key) <= grain:
            return True
    return any(
        index.get("unique") and set(index["columns"]) <= grain for index in meta(node).get("declared_indexes", [])
    )


def _required(column: MartColumn) -> MartColumn:
    return MartColumn(column.name, column.type, column.expression, column.description, column.meta, required=True)


def _is_summed(column: MartColumn, grain: Sequence[str]) -> bool:
    is_number = column.type.partition("(")[0] in ADDED
    return is_number and column.name not in grain and not column.meta and adds_up(column.name, column.type)


def _sum(column: MartColumn) -> MartColumn:
    kind = ADDED[column.type.partition("(")[0]]
    text = f"{column.description.rstrip('.')}, added up."
    return MartColumn(column.name, kind, f"cast(sum({column.name}) as {kind})", text, {}, is_sum=True)


def _count(name: str, model: str) -> MartColumn:
    entity = singular(PlannedMart(name, model, (), (), True, "").rows)
    return MartColumn(f"{entity}_count", "bigint", COUNT, f"Rows of {model}.", {}, required=True, is_sum=True)
