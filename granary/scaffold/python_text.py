"""Python expressions as text, laid out as ruff would. Text from outside enters only through `literal`."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

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
        name, separator, value = keyword(part)
        lines += layout(value, name + separator, ",", indent + 4)
    return [*lines, f"{margin}){after}"]


def keyword(part: Group | str) -> tuple[str, str, Group | str]:
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
