"""The user-facing text of a refused row: the column, the reason and the value, unless it may be personal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from granary.warehouse.quarantine import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.sources.spec import Table
    from granary.warehouse.records import Refusal

SHOWN = 40
"""Characters of a value that are shown."""
HIDDEN = "value not shown"


def value(table: Table, column: str, payload: Mapping[str, Any]) -> str:
    """Return a refused row's value of a column as a person may see it, shortened; '' if there is none.

    A personal column's is never shown, nor is that of a column that the contract does not name: nobody has said yet
    whether it is personal. What is not text is written as JSON.
    """
    found = next((known for known in table.columns if known.name == column), None)
    names = (found.name, *found.aliases) if found else (column,)
    name = next((name for name in names if name in payload), None)
    if not column or name is None or payload[name] is None:
        return ""
    if found is None or found.personal:
        return HIDDEN
    text = json_text(payload[name])
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def refusal_text(table: Table, refusal: Refusal) -> str:
    """Return a refusal in words: 'price is not a valid decimal128(18, 2): "1.2.3"'."""
    return f"{refusal.column or 'it'} {reason(table, refusal.column, refusal.reason, refusal.payload)}"


def reason(table: Table, column: str, why: str, payload: Mapping[str, Any]) -> str:
    """Return why a row was refused, with the column's value: 'is not a valid decimal128(18, 2): "1.2.3"'."""
    shown = value(table, column, payload)
    return f"{why} ({shown})" if shown == HIDDEN else f"{why}: {shown}" if shown else why
