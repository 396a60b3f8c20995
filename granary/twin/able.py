"""Whether a query has one answer, in Postgres and in the twin: by a list of what is known to mean the same in both.

DuckDB reads a query much as Postgres does, and means other things by some of it: `/` of whole numbers, `~`, an
average's digits. So nothing counts as the same that is not in these lists, and Postgres answers what is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

CLASSES = frozenset(
    {
        "COLUMN_REF", "CONSTANT", "FUNCTION", "COMPARISON", "CONJUNCTION", "CASE", "CAST", "OPERATOR", "BETWEEN",
        "SUBQUERY", "STAR", "WINDOW",
    }
)  # fmt: skip
"""Of expressions."""
FUNCTIONS = frozenset(
    {
        "count", "count_star", "sum", "min", "max", "bool_and", "bool_or", "+", "-", "*", "%", "||", "~~", "!~~",
        "abs", "length", "coalesce", "nullif", "greatest", "least", "date_trunc", "date_part", "row_number", "rank",
        "dense_rank",
    }
)  # fmt: skip
PARTS = frozenset({"year", "quarter", "month", "day", "hour", "minute", "doy", "isodow"})
"""Of a time, as the first argument of date_part and date_trunc."""
CASTS = frozenset({"DATE", "DECIMAL", "BIGINT", "VARCHAR", "TIMESTAMP", "INTERVAL"})
CONSTANT_CASTS = frozenset({"BIGINT", "VARCHAR", "INTERVAL", "TIMESTAMP"})
"""Casts that are the same of constants only."""
TABLES = frozenset({"BASE_TABLE", "JOIN", "SUBQUERY", "EMPTY"})
JOINS = frozenset({"INNER", "LEFT", "RIGHT", "FULL"})
NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE"})
MODIFIERS = frozenset({"ORDER_MODIFIER", "LIMIT_MODIFIER", "DISTINCT_MODIFIER"})
SCHEMA = "marts"
WHOLE = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
"""DuckDB's types of whole numbers."""
SAME = {
    "boolean": "BOOLEAN",
    "text": "VARCHAR",
    "character varying": "VARCHAR",
    "date": "DATE",
    "uuid": "UUID",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
}
NUMBERS = frozenset({"smallint", "integer", "bigint"})


def tables(engine: Any, sql: str) -> tuple[frozenset[str], str]:
    """Return the marts that a query reads, and why it may mean something else in the twin; empty if it does not.

    Args:
        engine: a connection of DuckDB; nothing is run.
        sql: one query.
    """
    parsed = json.loads(engine.execute("select json_serialize_sql(?)", [sql]).fetchone()[0])
    if parsed.get("error") or len(parsed["statements"]) != 1:
        return frozenset(), "it is no single query that DuckDB reads"
    node = parsed["statements"][0]["node"]
    names = {one["key"] for part in _parts(node) for one in (part.get("cte_map") or {}).get("map", ())}
    read = set()
    for part in _parts(node):
        if why := _foreign(part, names):
            return frozenset(), why
        if part.get("type") == "BASE_TABLE" and part["schema_name"]:
            read.add(str(part["table_name"]))
    return frozenset(read), ""


def cast(kind: str, found: str) -> str | None:
    """Return DuckDB's type in which a column of an answer is what Postgres' is, None if there is none.

    Args:
        kind: Postgres' type of the column, as format_type writes it.
        found: DuckDB's.
    """
    base, _, modifier = kind.partition("(")
    if base in NUMBERS and found in WHOLE:
        return base
    if base == "numeric" and (found in WHOLE or found.startswith("DECIMAL")):
        if not modifier:
            return "DECIMAL(38,0)" if found in WHOLE else found
        scale = modifier.rstrip(")").partition(",")[2]
        is_same = found.startswith("DECIMAL") and found.rstrip(")").partition(",")[2] == scale
        return f"DECIMAL({modifier}" if is_same else None
    same = SAME.get(_plain(kind))
    return same if same == found else None


def _plain(kind: str) -> str:
    before, _, after = kind.partition("(")
    return before + after.partition(")")[2]


def _parts(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every part of a parsed query, a query's parts after it."""
    if isinstance(node, dict):
        yield node
        for one in node.values():
            yield from _parts(one)
    elif isinstance(node, list):
        for one in node:
            yield from _parts(one)


def _foreign(part: dict[str, Any], names: set[str]) -> str:
    """Return why a part of a query may mean something else in the twin, empty if it does not."""
    kind = str(part.get("type"))
    if "class" in part:
        return _expression(part)
    if "from_table" in part or kind.endswith("_NODE"):
        if kind not in NODES or part.get("sample") or part.get("qualify"):
            return f"{kind.lower()} is not known to be the same"
        if part.get("aggregate_handling", "STANDARD_HANDLING") != "STANDARD_HANDLING":
            return "it groups by all"
    elif kind.endswith("_MODIFIER"):
        if kind not in MODIFIERS:
            return f"{kind.lower()} is not known to be the same"
    elif "alias" in part and "sample" in part:
        return _table(part, kind, names)
    return ""


def _table(part: dict[str, Any], kind: str, names: set[str]) -> str:
    if kind not in TABLES or part["sample"] or part.get("at_clause"):
        return f"{kind.lower()} is not known to be the same"
    if kind == "JOIN" and (part["join_type"] not in JOINS or part["ref_type"] not in {"REGULAR", "CROSS", "NATURAL"}):
        return f"a join {part['join_type'].lower()} is not known to be the same"
    if (
        kind == "BASE_TABLE"
        and part["schema_name"] != SCHEMA
        and not (not part["schema_name"] and part["table_name"] in names)
    ):
        return f"{part['table_name']} is no mart"
    return ""


def _expression(part: dict[str, Any]) -> str:
    kind, name = part["class"], str(part.get("function_name", ""))
    known = kind in CLASSES
    if kind in {"FUNCTION", "WINDOW"}:
        known = name in FUNCTIONS
    if known and name in {"date_trunc", "date_part"}:
        first = part["children"][0]
        known = first.get("class") == "CONSTANT" and str(first["value"].get("value")).lower() in PARTS
    if kind == "CONSTANT":
        known = "\\" not in str(part["value"].get("value", ""))  # an escape to one of them
    if kind == "CAST":
        name = f"a cast to {part['cast_type']['id'].lower()}"
        known = _is_same_cast(part)
    if kind == "STAR":
        known = not any(part.get(one) for one in ("exclude_list", "replace_list", "expr", "columns"))
    return "" if known else f"{name or 'this ' + kind.lower()} is not known to be the same"


def _is_same_cast(part: dict[str, Any]) -> bool:
    target, is_constant = part["cast_type"]["id"], part["child"].get("class") == "CONSTANT"
    return not part["try_cast"] and target in CASTS and (is_constant or target not in CONSTANT_CASTS)
