"""The files of a mart: its SQL, and YAML with its contract, descriptions, tests and how its rows are explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from granary.scaffold.dbt import dump
from granary.scaffold.names import singular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.scaffold.mart import MartColumn, PlannedMart

FOLDER = "models/marts/core"


def files(mart: PlannedMart) -> dict[str, str]:
    """Return the files of a mart: path below the project -> content."""
    return {f"{FOLDER}/{mart.name}.yml": yaml(mart), f"{FOLDER}/{mart.name}.sql": sql(mart)}


def sql(mart: PlannedMart) -> str:
    """Return the query of a mart."""
    return query(mart.rows, mart.model, [_named(column) for column in mart.columns]) + _group_by(mart)


def query(rows: str, model: str, columns: Sequence[str]) -> str:
    """Return the query for columns of a model, whose rows are called `rows`."""
    selected = ",\n".join(f"    {column}" for column in columns)
    return (
        f"with\n\n{rows} as (\n\n    select * from {{{{ ref('{model}') }}}}\n\n)\n\nselect\n{selected}\nfrom {rows}\n"
    )


def _group_by(mart: PlannedMart) -> str:
    if not mart.grouped:
        return ""
    keys = [column.expression for column in mart.columns if column.name in mart.grain]
    return "group by\n" + ",\n".join(f"    {key}" for key in keys) + "\n"


def _named(column: MartColumn) -> str:
    return column.name if column.expression == column.name else f"{column.expression} as {column.name}"


def yaml(mart: PlannedMart) -> str:
    """Return the YAML of a mart."""
    meta: dict[str, Any] = {}
    if mart.measures:
        meta["measures"] = mart.measures
    if mart.day and mart.day != "business_date":
        meta["business_date"] = mart.day
    meta["declared_indexes"] = [{"name": f"{mart.name}_grain", "columns": list(mart.grain), "unique": True}]
    if mart.day and mart.grain[0] != mart.day:
        meta["declared_indexes"].append({"columns": [mart.day]})
    meta["explained_by"] = [_explained(mart)]
    grain = {"granary.unique_by_index": {"name": f"{mart.name}_grain", "arguments": {"columns": list(mart.grain)}}}
    model = {
        "name": mart.name,
        "description": _says(mart),
        "config": {"meta": meta},
        "data_tests": [grain, {"granary.has_declared_indexes": {"name": f"{mart.name}_indexed"}}],
        "columns": [_column(column) for column in mart.columns],
    }
    return dump({"models": [model]})


def _says(mart: PlannedMart) -> str:
    if mart.grouped:
        return f"One row per {' and '.join(mart.grain)}: the rows of `{mart.model}`, added up."
    return f"One row per {singular(mart.rows).replace('_', ' ')} ({', '.join(mart.grain)}), from `{mart.model}`."


def _explained(mart: PlannedMart) -> dict[str, Any]:
    """Return how the rows of the model are found that a row is made from, and what they have to add up to."""
    keys = [column for column in mart.columns if column.name in mart.grain]
    plain = all(key.expression == key.name for key in keys)
    match = [key.name for key in keys] if plain else {key.name: key.expression for key in keys}
    numbers = {
        column.name: column.expression if column.is_sum else f"sum({column.name})"
        for column in mart.columns
        if column.is_sum or column.name in mart.measures
    }
    return {"model": mart.model, "match": match, **({"numbers": numbers} if numbers else {})}


def _column(column: MartColumn) -> dict[str, Any]:
    return {
        "name": column.name,
        "data_type": column.type,
        "description": column.description,
        **({"config": {"meta": dict(column.meta)}} if column.meta else {}),
        **({"constraints": [{"type": "not_null"}]} if column.required else {}),
    }
