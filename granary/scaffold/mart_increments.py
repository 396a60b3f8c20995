"""The files of a mart that overwrites the days that changed: its query, and models that say which these are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from granary.scaffold import mart_files
from granary.scaffold.dbt import dump
from granary.sources.discovery import SOURCES
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.scaffold.mart import PlannedMart


@dataclass(frozen=True)
class Delivery:
    """The source table whose loads say which days of a mart changed."""

    source: str
    table: str


def delivery(manifest: Mapping[str, Any], mart: PlannedMart) -> Delivery:
    """Return the source table that a mart's model stages.

    Raises:
        GranaryError: its days cannot be overwritten by what its loads brought.
    """
    node = next(key for key, one in manifest["nodes"].items() if one["name"] == mart.model)
    parents = [manifest["sources"][one] for one in manifest["parent_map"][node] if one in manifest["sources"]]
    if len(parents) != 1 or len(manifest["parent_map"][node]) != 1:
        raise GranaryError(f"{mart.model} is not made from one source table", todo="leave --incremental out")
    found = Delivery(str(parents[0]["source_name"]), str(parents[0]["name"]))
    source = SOURCES.get(found.source)
    dispositions = [table.disposition for table in source.tables if table.name == found.table] if source else []
    if dispositions not in (["replace_unit"], ["append"]):
        what = f"a load of {found.source}.{found.table} takes rows from earlier ones, whose days nobody would know"
        raise GranaryError(what, todo="leave --incremental out: the mart is then built anew by each run")
    if not mart.day or (mart.grouped and mart.day not in mart.grain):
        raise GranaryError("an incremental mart needs a day in each row", todo="name it: --date COLUMN")
    return found


def files(mart: PlannedMart, found: Delivery) -> dict[str, str]:
    """Return the files of an incremental mart: path below the project -> content."""
    day = next(column for column in mart.columns if column.name == mart.day)
    whole = replace(
        mart,
        columns=tuple(replace(one, required=one.required or one.name == mart.day) for one in mart.columns),
    )
    folder = f"models/intermediate/{found.source}"
    rows, changes = f"int_{mart.name}__rows", f"int_{mart.name}__changed_days"
    dated = "*" if day.expression == day.name else f"*,\n    {day.expression} as {day.name}"
    described = [
        {"name": rows, "description": f"The rows of `{mart.model}` with the day that each belongs to."},
        {
            "name": changes,
            "description": f"Why days of `{mart.name}` change: one row per load that caused it, day and reason.",
        },
    ]
    return {
        f"{folder}/{rows}.sql": f"select\n    {dated}\nfrom {{{{ ref('{mart.model}') }}}}\n",
        f"{folder}/{changes}.sql": _changes(mart, found, rows),
        f"{folder}/_{mart.name}.yml": dump({"models": described}),
        f"{mart_files.FOLDER}/{mart.name}.yml": mart_files.yaml(whole),
        f"{mart_files.FOLDER}/{mart.name}.sql": _query(whole, found, rows, changes),
    }


def _changes(mart: PlannedMart, found: Delivery, rows: str) -> str:
    return f"""\
{{{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='fail',
        pre_hook="{{{{ granary.advance_watermark({{'{found.source}': [source('ops', 'load_audit')]}}) }}}}",
    )
}}}}

with

{{{{ granary.log_changes(relation=ref('{rows}'), partition='{mart.day}', source_name='{found.source}') }}}}
"""


def _query(mart: PlannedMart, found: Delivery, rows: str, changes: str) -> str:
    changed = f"granary.in_changed_partitions(changes, '{mart.day}', '{found.source}', '{found.table}')"
    there = tuple(replace(one, expression=one.name) if one.name == mart.day else one for one in mart.columns)
    plain = mart_files.sql(replace(mart, columns=there)).replace(
        f"    select * from {{{{ ref('{mart.model}') }}}}\n",
        f"    select * from {{{{ ref('{rows}') }}}}\n    where {{{{ {changed} }}}}\n",
    )
    return f"""\
{{{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        unique_key='{mart.day}',
        meta={{'changes': '{changes}'}},
        on_schema_change='fail',
        pre_hook="{{{{ granary.follow_watermark(ref('{changes}')) }}}}",
    )
}}}}

{{% set changes = ref('{changes}') %}}

{plain}"""
