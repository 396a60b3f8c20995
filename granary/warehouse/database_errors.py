"""What may be told of a database's error: what went wrong, and no value of a row.

A server explains a broken constraint with the row itself (`DETAIL: Failing row contains (…)`), a failed COPY with the
line, a failed cast with the value. None of that may reach a terminal, a log or Dagster's events.
"""

from __future__ import annotations

import re
from typing import Any

EXPLAINED = ("08", "0A", "28", "40", "53", "54", "55", "57", "58")
"""Classes of SQLSTATE whose details are of the server and its locks, never of rows."""
OF_SQL = "42"
"""The class of errors in the statement itself: what is said of these is of names and types."""
OF_VALUES = ("22", "44")
"""Classes of errors in values, which are quoted in the message."""
MASK = "…"
_QUOTED = re.compile(r'".*"|"[^"]*$', re.DOTALL)
_BYTES = re.compile(r"0x[0-9a-f]{2}(?: 0x[0-9a-f]{2})*")
_REST = re.compile(r"\s*\b(?:DETAIL|CONTEXT|QUERY|WHERE|STATEMENT):\s.*", re.DOTALL)
_VALUES = re.compile(r"(invalid input|out of range|not recognized|is not a valid|invalid value|malformed)")


def safe_text(error: BaseException) -> str:
    """Return what may be told of an error of psycopg (2 or 3) or of another driver of Postgres, without values."""
    diag: Any = getattr(error, "diag", None)
    state = str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
    primary = getattr(diag, "message_primary", None)
    if primary is None:
        return plain(str(error), state)
    if state.startswith(OF_SQL):
        return _without_rows(str(error).strip())
    said = [without_values(primary, state)]
    if state.startswith(EXPLAINED) and diag.message_detail:
        said.append(f"DETAIL:  {diag.message_detail}")
    if not state.startswith((*OF_VALUES, "23")) and diag.message_hint:
        said.append(f"HINT:  {diag.message_hint}")
    return "\n".join(said)


def plain(text: str, state: str = "") -> str:
    """Return the text of an error, of which only the text is known, without its details and values."""
    return without_values(_REST.sub("", text), state)


def without_values(message: str, state: str) -> str:
    """Return a message with a mask for each value; names in messages of other classes stay."""
    if state.startswith(OF_VALUES) or (not state and _VALUES.search(message)):
        return _BYTES.sub(MASK, _QUOTED.sub(f'"{MASK}"', message))
    return message


def _without_rows(text: str) -> str:
    """Return what is said of a statement without the line that a COPY was at."""
    return re.sub(r"(?m)^(?:CONTEXT:\s+)?COPY .*$", "", text).strip()


def clean(error: Any) -> None:
    """Have an error of psycopg 3 say what may be told, wherever its text goes from here."""
    error.args = (safe_text(error), *error.args[1:])
