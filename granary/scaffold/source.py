"""The source's Python module, as ruff would format it. Text from outside enters it only through `literal`."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.scaffold.words import column_says, table_says

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from granary.scaffold.plan import PlannedColumn, PlannedSource, PlannedTable

WIDTH = 120
LATIN = range(0xC0, 0x180)
LONG = "  # noqa: E501 - the source's own words"


@dataclass(frozen=True)
class Group:
    """A call or a tuple: what stands before its brackets, and its parts."""

    head: str
    parts: tuple[Group | str, ...]


def layout(node: Group | str, before: str = "", after: str = "", indent: int = 0) -> list[str]:
    """Return the lines of an expression: one if it fits, else one per part with a trailing comma, as ruff does it."""
    margin = " " * indent
    line = margin + before + flat(node) + after
    if isinstance(node, str) or len(line) <= WIDTH:
        # ruff lets a line pass that is one word only, and then refuses the mark itself.
        return [line + (LONG if len(line) > WIDTH and len(line.split()) > 1 else "")]
    lines = [f"{margin}{before}{node.head}("]
    for part in node.parts:
        name, separator, value = _keyword(part)
        lines += layout(value, name + separator, ",", indent + 4)
    return [*lines, f"{margin}){after}"]


def _keyword(part: Group | str) -> tuple[str, str, Group | str]:
    """Split `name=(` from a keyword's tuple or call, so that its brackets are laid out by themselves."""
    if isinstance(part, Group) and "=" in part.head:
        name, _, head = part.head.partition("=")
        return name, "=", Group(head, part.parts)
    return "", "", part


def flat(node: Group | str) -> str:
    """Return an expression on one line."""
    if isinstance(node, str):
        return node
    inside = ", ".join(flat(part) for part in node.parts)
    is_tuple = node.head == "" or node.head.endswith("=")
    return f"{node.head}({inside}{',' if is_tuple and len(node.parts) == 1 else ''})"


def literal(text: str) -> str:
    """Return a Python string that is exactly `text`: printable ASCII and Latin letters, everything else escaped."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_letter(letter, quote) for letter in text) + quote


def _letter(letter: str, quote: str) -> str:
    if letter in ("\\", quote):
        return "\\" + letter
    code = ord(letter)
    if " " <= letter <= "~" or (code in LATIN and unicodedata.category(letter)[0] == "L"):
        return letter
    if letter in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[letter]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


def construction(value: Any, ordinary: Collection[tuple[str, object]] = ()) -> Group:
    """Return the call that makes a dataclass equal to `value`, without defaults and what is ordinary."""
    parts = [
        f"{field.name}={_python(given)}"
        for field in fields(value)
        if (given := getattr(value, field.name)) != field.default and (field.name, given) not in ordinary
    ]
    return Group(type(value).__name__, tuple(parts))


def _python(value: object) -> str:
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_python, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def module(source: PlannedSource) -> str:
    """Return the text of `ingestion/sources/<name>.py`."""
    names = _constants(source)
    number = f"{len(source.tables)} table{'s' if len(source.tables) > 1 else ''}"
    opening = source.opening
    lines = [
        f'"""{source.name.capitalize()}: {number} ({source.kind}), written by `granary add-source` from a sample.',
        "",
        "Yours from now on: put the descriptions right, and the contract where you know better than the sample.",
        '"""',
        "",
        "from datetime import timedelta",
        "",
        "import pyarrow as pa",
        "",
        *sorted([*opening.imports, "from ingestion.spec import Column, Source, Table"]),
        "",
    ]
    if opening.formats:
        lines += ["FORMATS: dict[str, Format] = {"]
        lines += [line for entry in opening.formats for line in layout(entry, "", ",", 4)]
        lines += ["}", '"""What the files do not tell of themselves, by table."""', ""]
    for table in source.tables:
        lines += [*layout(_table(table), f"{names[table.name]} = "), ""]
    settings = Group("settings=", tuple(literal(name) for name in opening.settings))
    tables = Group("tables=", tuple(names[table.name] for table in source.tables))
    spec = Group(
        "Source",
        (
            f"name={literal(source.name)}",
            f"description={literal(f'{source.name.capitalize()}: {number}, as its owner delivers them.')}",
            'owner="data-engineering"',
            f"kind={literal(source.kind)}",
            settings,
            Group(f"open_reader=lambda settings: {opening.expression.head}", opening.expression.parts),
            tables,
        ),
    )
    return "\n".join([*lines, *_always_open(spec, "SOURCE = ")]) + "\n"


def _constants(source: PlannedSource) -> dict[str, str]:
    names = {table.name.upper() for table in source.tables}
    taken = {table.name: table.name.upper() for table in source.tables if table.name not in ("source", "formats")}
    for name in ("source", "formats"):
        free = (f"{name}_table{'_' * number}".upper() for number in range(len(names) + 1))
        taken[name] = next(one for one in free if one not in names)
    return taken


def _always_open(node: Group, before: str) -> list[str]:
    lines = [f"{before}{node.head}("]
    for part in node.parts:
        name, separator, value = _keyword(part)
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
    parts.append(Group("columns=", tuple(_column(column) for column in table.columns)))
    return Group("Table", tuple(parts))


def _column(column: PlannedColumn) -> Group:
    parts: list[Group | str] = [literal(column.name), arrow(column.type), literal(column_says(column))]
    if column.required:
        parts.append("nullable=False")
    if column.personal:
        parts.append(f'personal="{column.personal}"')
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
    hours = int(freshness.total_seconds() // 3600)
    return f"timedelta(days={hours // 24})" if hours % 24 == 0 else f"timedelta(hours={hours})"
