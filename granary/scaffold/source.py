"""The source's Python module, as ruff would format it. Text from outside enters it only through `literal`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from granary.scaffold.declared import HOUR
from granary.scaffold.descriptions import column_says, source_says, table_says
from granary.scaffold.python_text import Group, keyword, layout, literal

if TYPE_CHECKING:
    from datetime import timedelta

    from granary.scaffold.plan import PlannedColumn, PlannedSource, PlannedTable


def module(source: PlannedSource) -> str:
    """Return the text of `ingestion/<name>.py`."""
    names = constants(source)
    opening = source.opening
    streamed = "Stream, " if opening.topics else ""
    lines = [
        f'"""{source.name.capitalize()} ({source.kind}), written by `granary add-source` from a sample.',
        "",
        "Yours from now on: put the descriptions right, and the contract where you know better than the sample.",
        '"""',
        "",
        "from datetime import timedelta",
        "",
        "import pyarrow as pa",
        "",
        *sorted([*opening.imports, f"from granary.sources.spec import Column, Source, {streamed}Table"]),
        "",
    ]
    if opening.formats:
        lines += ["FORMATS: dict[str, Format] = {"]
        lines += [line for entry in opening.formats for line in layout(entry, "", ",", 4)]
        lines += ["}", '"""What the files do not tell of themselves, by table."""', ""]
    for table in source.tables:
        lines += [*constant(table, names[table.name]), ""]
    # The address of a log is a setting of the stream: what is read by loads needs none.
    settings = Group("settings=", () if streamed else tuple(literal(name) for name in opening.settings))
    tables = Group("tables=", tuple(names[table.name] for table in source.tables))
    spec = Group(
        "Source",
        (
            f"name={literal(source.name)}",
            f"description={literal(source_says(source))}",
            'owner="data-engineering"',
            f"kind={literal(source.kind)}",
            settings,
            Group(
                f"open_reader=lambda {'_' if streamed else 'settings'}: {opening.expression.head}",
                opening.expression.parts,
            ),
            tables,
            *_stream(source),
        ),
    )
    return "\n".join([*lines, *_always_open(spec, "SOURCE = ")]) + "\n"


def _stream(source: PlannedSource) -> tuple[Group, ...]:
    """Return which topics of a log the tables come from, if they do."""
    topics = source.opening.topics
    if not topics:
        return ()
    named = ", ".join(f"{literal(table.name)}: {literal(topics[table.name])}" for table in source.tables)
    (setting,) = source.opening.settings
    secrets = f"GRANARY_{source.name.upper()}_WEBHOOK_SECRETS"
    return (
        Group("stream=Stream", (f"topics={{{named}}}", f"address={literal(setting)}", f"secrets={literal(secrets)}")),
    )


def constants(source: PlannedSource) -> dict[str, str]:
    """Return what the tables are called in the module."""
    names = {table.name.upper() for table in source.tables}
    taken = {table.name: table.name.upper() for table in source.tables if table.name not in ("source", "formats")}
    for name in ("source", "formats"):
        free = (f"{name}_table{'_' * number}".upper() for number in range(len(names) + 1))
        taken[name] = next(one for one in free if one not in names)
    return taken


def constant(table: PlannedTable, name: str) -> list[str]:
    """Return the lines of a table's constant."""
    return layout(_table(table), f"{name} = ")


def _always_open(node: Group, before: str) -> list[str]:
    lines = [f"{before}{node.head}("]
    for part in node.parts:
        name, separator, value = keyword(part)
        lines += layout(value, name + separator, ",", 4)
    return [*lines, ")"]


def _table(table: PlannedTable) -> Group:
    parts: list[Group | str] = [
        f"name={literal(table.name)}",
        f"description={literal(table_says(table))}",
        f"location={literal(table.location)}",
        f'disposition="{table.disposition}"',
    ]
    if table.contract_key:
        parts.append(Group("key=", tuple(literal(name) for name in table.contract_key)))
    if table.cursor:
        parts.append(f"cursor={literal(table.cursor)}")
    parts.append(f"freshness={_duration(table.freshness)}")
    parts.append(Group("columns=", tuple(column(one) for one in table.columns)))
    return Group("Table", tuple(parts))


def column(column: PlannedColumn) -> Group:
    """Return the expression of a column."""
    parts: list[Group | str] = [literal(column.name), arrow(column.type), literal(column_says(column))]
    if column.required:
        parts.append("nullable=False")
    if column.personal:
        parts.append(f'personal="{column.personal}"')
    if column.subject:
        parts.append(f'subject="{column.subject}"')
    if column.agreed:
        parts += [
            f"{name}={bound}" for name in ("minimum", "maximum") if (bound := getattr(column.agreed, name)) is not None
        ]
        if column.agreed.allowed:
            parts.append(Group("allowed=", tuple(literal(value) for value in column.agreed.allowed)))
    if column.optional:
        parts.append('missing="null"')
    if column.header != column.name:
        parts.append(Group("aliases=", (literal(column.header),)))
    if column.mixed:
        parts.append("mixed=True")
    if not column.seen.finite:
        parts.append("finite=False")
    if column.null:
        parts.append(Group("null=", tuple(literal(word) for word in column.null)))
    return Group("Column", tuple(parts))


def arrow(kind: pa.DataType) -> str:
    """Return the expression of an Arrow type that raw tables hold."""
    if pa.types.is_timestamp(kind):
        return 'pa.timestamp("us", tz="UTC")' if kind.tz else 'pa.timestamp("us")'
    if pa.types.is_decimal(kind):
        return f"pa.{'decimal128' if pa.types.is_decimal128(kind) else 'decimal256'}({kind.precision}, {kind.scale})"
    names = {pa.float32(): "float32", pa.float64(): "float64", pa.bool_(): "bool_", pa.date32(): "date32"}
    return f"pa.{names.get(kind, str(kind))}()"


def _duration(freshness: timedelta) -> str:
    hours = max(1, round(freshness / HOUR))
    return f"timedelta(days={hours // 24})" if hours % 24 == 0 else f"timedelta(hours={hours})"
