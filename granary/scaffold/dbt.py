"""The dbt files of a source: its sources YAML, and per table a staging view with its YAML and tests."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml

from granary.profiling.names import looks_like_key
from granary.scaffold.declared import freshness
from granary.scaffold.descriptions import cast_says, column_says, range_says, source_says, table_says
from granary.scaffold.names import short
from granary.scaffold.plan import enumeration
from granary.warehouse.records import sql_type
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.scaffold.plan import PlannedColumn, PlannedSource, PlannedTable

LOADED_AT = """\
select coalesce(max(fresh_at), timestamptz '1970-01-01 00:00:00+00') as loaded_at
from ops.freshness
where source = '{{ source_node.source_name }}' and table_name = '{{ this.identifier }}'
"""
LOAD_ID = "The load that brought the row; see `ops.load_audit`."
LOAD_ROW = "Row number within the loaded unit (file, page set or cursor window), from 1."
WARN = {"config": {"severity": "warn"}}
LARGEST_BOUND = 2**53
"""dbt keeps numbers as doubles and 64 bits, and YAML takes 1.5e+25 for text: beyond it nothing is exact."""


class _Dumper(yaml.SafeDumper):
    """YAML as the project's yamllint wants it: lists indented, text of several lines as a block."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists too."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if value.endswith("\n") and value.isascii() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(content: Any) -> str:
    """Return YAML that reads back as exactly `content`."""
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=10_000)
    return str(text)


def sources(source: PlannedSource) -> str:
    """Return `_<name>__sources.yml`."""
    tables = [source_table(table) for table in source.tables]
    return dump(
        {
            "sources": [
                {
                    "name": source.name,
                    "schema": f"raw_{source.name}",
                    "description": source_says(source),
                    "config": {"loaded_at_query": LOADED_AT},
                    "tables": tables,
                }
            ]
        }
    )


def source_table(table: PlannedTable) -> dict[str, Any]:
    """Return the entry of a table in the sources YAML."""
    columns = [source_column(column) for column in table.columns]
    columns += [
        {"name": "_load_id", "description": "The load; see ops.load_audit."},
        {"name": "_row", "description": "Row number within the loaded unit, from 1."},
    ]
    config = {"freshness": freshness(table.freshness)}
    return {"name": table.name, "description": table_says(table), "config": config, "columns": columns}


def source_column(column: PlannedColumn) -> dict[str, Any]:
    """Return the entry of a column in the sources YAML."""
    return {"name": column.name, "description": column_says(column), **_meta(column)}


def _meta(column: PlannedColumn) -> dict[str, Any]:
    said = {"personal": column.personal, "subject": column.subject}
    meta = {name: value for name, value in said.items() if value}
    return {"config": {"meta": meta}} if meta else {}


def staging_sql(source: PlannedSource, table: PlannedTable) -> str:
    """Return `stg_<source>__<table>.sql`: names and casts. Nothing but checked names enters it."""
    lines = [line for column in table.columns for line in staged(column)]
    lines += ["_load_id as load_id", "_row as load_row"]
    selected = ",\n".join(f"    {line}" for line in lines)
    return f"""\
with

source as (

    select * from {{{{ source('{source.name}', '{table.name}') }}}}

)

select
{selected}
from source
"""


def staged(column: PlannedColumn) -> list[str]:
    """Return the expressions of a column in the staging query."""
    return [_cast(column), *_written(column)]


def _cast(column: PlannedColumn) -> str:
    if pa.types.is_string(column.type):
        return column.name if column.name == column.staged else f"{column.name} as {column.staged}"
    return f"cast({column.name} as {data_type(column.type)}) as {column.staged}"


def _written(column: PlannedColumn) -> list[str]:
    """Return the staging column in which text is read as what it is, if it is; the text stands before it."""
    look = column.written
    if look is None:
        return []
    words = look.style.split("/") if look.kind == "boolean" else [look.style] if look.style else []
    given = ", ".join((column.name, *(f"'{word}'" for word in words)))
    return [f"{look.function}({given}) as {column.cast}"]


CAST_TYPES = {
    "date": "date",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
    "number": "numeric",
    "percent": "numeric",
    "boolean": "boolean",
}


def data_type(kind: pa.DataType) -> str:
    """Return the type of a staging column, in the words that the project's SQL uses."""
    name = sql_type(kind)
    long = {"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone"}
    return long.get(name, name.replace(",", ", "))


def reconciliation(source: PlannedSource) -> str:
    """Return the test that raw has the rows that the ledger says, of tables whose loads share no rows; '' for none.

    A row that is taken by its key stays of the load that last changed it, whatever load brings it again.
    """
    tables = [table.name for table in source.tables if not table.contract_key]
    if not tables:
        return ""
    listed = "".join(f"        ('{source.name}', '{name}', none),\n" for name in tables)
    model = {"ref": {"name": f"stg_{source.name}__{tables[0]}"}}
    return f"""\
{{{{ config(meta={{'dagster': {model}}}) }}}}

-- Every load that still counts has as many rows in raw as the ledger says, and raw has no row of any other load. Tables
-- that take a row by its key are left out.
{{{{
    granary.ledger_differences([
{listed}    ])
}}}}
"""


def staging_yaml(source: PlannedSource, table: PlannedTable) -> str:
    """Return `stg_<source>__<table>.yml`: contract, descriptions and tests."""
    prefix = f"{source.name}_{table.name}"
    staged = {column.name: column.staged for column in table.columns}
    model: dict[str, Any] = {
        "name": f"stg_{source.name}__{table.name}",
        "description": f"{table_says(table)} {_evidence(table)}",
    }
    if len(table.key) > 1:
        grain = {"combination_of_columns": [staged[name] for name in table.key]}
        test = {"name": short(f"{prefix}_grain"), "arguments": grain, **({} if table.sure else WARN)}
        model["data_tests"] = [{"dbt_utils.unique_combination_of_columns": test}]
    model["columns"] = [
        shown
        for column in table.columns
        for shown in (_column(source, prefix, table, column), *_cast_column(prefix, table, column))
    ]
    model["columns"] += [
        {"name": "load_id", "data_type": "bigint", "description": LOAD_ID},
        {"name": "load_row", "data_type": "integer", "description": LOAD_ROW},
    ]
    return dump({"models": [model]})


def _evidence(table: PlannedTable) -> str:
    if not table.rows:
        return "Types and what may be missing come from its schema."
    seen = f"all {table.rows:,} rows there were" if table.complete else f"a sample of {plural(table.rows, 'row')}"
    return f"Types, keys and tests come from {seen}; tests of ranges only warn."


def described(column: PlannedColumn) -> list[dict[str, Any]]:
    """Return the YAML of a column that a table gained later, without tests: rows from before do not have it."""
    shown = [(column.staged, data_type(column.type), column_says(column) + range_says(column))]
    if column.written:
        shown.append((column.cast, CAST_TYPES[column.written.kind], cast_says(column)))
    return [{"name": name, "data_type": kind, "description": words, **_meta(column)} for name, kind, words in shown]


def _cast_column(prefix: str, table: PlannedTable, column: PlannedColumn) -> list[dict[str, Any]]:
    """Return what a text is read as, and the test that finds the texts which cannot be read so."""
    if column.written is None:
        return []
    reads = {
        "name": short(f"{prefix}_{column.cast}_reads"),
        "arguments": {"expression": f"is not null or nullif(trim({column.staged}), '') is null"},
        **({} if table.complete and column.written.share == 1 else WARN),
    }
    return [
        {
            "name": column.cast,
            "data_type": CAST_TYPES[column.written.kind],
            "description": cast_says(column),
            **_meta(column),
            "data_tests": [{"dbt_utils.expression_is_true": reads}],
        }
    ]


def _column(source: PlannedSource, prefix: str, table: PlannedTable, column: PlannedColumn) -> dict[str, Any]:
    described = column_says(column) + range_says(column)
    tests = _tests(source, prefix, table, column)
    return {
        "name": column.staged,
        "data_type": data_type(column.type),
        "description": described,
        **_meta(column),
        **({"data_tests": tests} if tests else {}),
    }


def _tests(source: PlannedSource, prefix: str, table: PlannedTable, column: PlannedColumn) -> list[dict[str, Any]]:
    """Return a column's tests. What was seen in all of the data fails, what was seen in a sample only warns."""
    name, sure = f"{prefix}_{column.staged}", {} if table.complete else WARN
    tests: list[dict[str, Any]] = []
    key_sure = {} if table.sure else sure
    if table.key == (column.name,):
        tests.append({"unique": {"name": short(f"{name}_unique"), **key_sure}})
    if column.name in table.key:
        tests.append({"not_null": {"name": short(f"{name}_present"), **key_sure}})
    elif column.seen.rows and not column.seen.nulls:
        tests.append({"not_null": {"name": short(f"{name}_present"), **sure}})
    if values := enumeration(column):
        known = {"name": short(f"{name}_known"), "arguments": {"values": list(values)}, **sure}
        tests.append({"accepted_values": known})
    if column.parent:
        other = next(one for one in source.tables if one.name == column.parent.table)
        field = next(one.staged for one in other.columns if one.name == column.parent.column)
        to = {"to": f"ref('stg_{source.name}__{other.name}')", "field": field}
        tests.append({"relationships": {"name": short(f"{name}_in_{other.name}"), "arguments": to, **sure}})
    # A key's next number, and what falls or rises further in rows that were not seen, is outside by nature.
    beyond = column.name in table.key and not pa.types.is_temporal(column.type)
    beyond |= column.seen.ordered and not table.complete
    if not beyond and column.parent is None and (bounds := limits(column)):
        tests.append({"dbt_utils.accepted_range": {"name": short(f"{name}_in_range"), "arguments": bounds, **WARN}})
    return tests


def limits(column: PlannedColumn) -> dict[str, Any]:
    """Return the bounds of a range test: what was found, rounded outward to two digits; dates only have a first one.

    Keys, personal data, what has one value only, and what rises or falls from row to row get none: their next value is
    outside by nature. Nor does what is beyond a double's whole numbers: dbt cannot hold such a bound.
    """
    low, high = column.seen.minimum, column.seen.maximum
    if low is None or column.personal or looks_like_key(column.name) or column.seen.distinct < 2:  # noqa: PLR2004
        return {}
    if isinstance(low, (date, datetime)):
        return {"min_value": f"date '{low:%Y}-01-01'"}
    if column.seen.ordered or not all(math.isfinite(end) and abs(end) < LARGEST_BOUND for end in (low, high)):
        return {}
    return {"min_value": _outward(low, math.floor), "max_value": _outward(high, math.ceil)}


def _outward(value: float | Decimal, rounding: Any) -> int | float:
    """Round to two significant digits, away from the values that were found."""
    exact = Decimal(str(value))
    if not exact:
        return 0
    unit = Decimal(1).scaleb(exact.adjusted() - 1)
    rounded = rounding(exact / unit) * unit
    return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)
