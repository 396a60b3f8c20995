"""Names that Python, Postgres, dbt and sqlfluff all take, made from whatever a source calls its things."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from granary.profiling.names import snake
from granary.scaffold.keywords import KEYWORDS, RESERVED
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST_SOURCE = 24
LONGEST_COLUMN = 40
LONGEST = 55
"""Bytes that a relation's or a test's name may have."""
LOAD_COLUMNS = frozenset({"load_id", "load_row"})
"""What staging calls a raw table's own two columns."""
TAKEN = frozenset(
    {"ops", "staging", "intermediate", "build", "marts", "snapshots", "seeds", "metrics", "information_schema"}
)
"""Names that groups, schemas or folders of the project have already."""


def check_source(name: str) -> str:
    """Return the name of a source if it may be one: it becomes a module, a folder, a schema and part of every model.

    Raises:
        GranaryError: it is not a lower snake case, too long, or means something else already.
    """
    if SOURCE.fullmatch(name) is None or len(name) > LONGEST_SOURCE:
        todo = f"use lower case letters, digits and single underscores, at most {LONGEST_SOURCE} characters"
        raise GranaryError(f"{name[:60]!r} cannot be the name of a source", todo=todo)
    if name in TAKEN or name in KEYWORDS:
        raise GranaryError(f"{name!r} means something else already", todo="choose another name for the source")
    return name


def singular(table: str) -> str:
    """Return what one row of a table is: rentals -> rental, batches -> batch, deliveries -> delivery, uses -> use."""
    if table.endswith("ies") and len(table) > len("flies"):
        return table[:-3] + "y"
    if re.search(r"(ch|sh|x|ss|[^ao_]us)es$", table):
        return table[:-2]
    return table[:-1] if re.search(r"[^su]s$", table) else table


def raw_names(headers: Iterable[str], table: str) -> list[str]:
    """Return the raw columns' names for a table's headers, in order: safe, each once, none that is another header."""
    names: list[str] = []
    headers = list(headers)
    for number, header in enumerate(headers, 1):
        name = snake(header) or f"column_{number}"
        if not name[0].isalpha():
            name = f"column_{name}"
        if name in RESERVED or name in LOAD_COLUMNS:
            name = f"{singular(table)}_{name}"
        others = {other for other in headers if other != header}
        names.append(_free(name[:LONGEST_COLUMN].rstrip("_"), others.union(names)))
    return names


def staged_names(raw: Iterable[str], table: str) -> list[str]:
    """Return the staging columns' names: as in raw, but a word of SQL gets the entity in front (date: rental_date)."""
    names: list[str] = []
    raw, entity = list(raw), singular(table)
    for name in raw:
        better = f"{name}_value" if name == entity else f"{entity}_{name}"
        wanted = better[:LONGEST_COLUMN].rstrip("_") if name in KEYWORDS else name
        names.append(_free(wanted, [*names, *(other for other in raw if other != name)]))
    return names


def cast_names(staged: Iterable[tuple[str, str]], taken: Iterable[str]) -> dict[str, str]:
    """Return the names of the staging columns that text is cast in, by that of the text: price -> price_number."""
    taken = set(taken) | LOAD_COLUMNS
    names: dict[str, str] = {}
    for name, kind in staged:
        names[name] = _free(f"{name[:LONGEST_COLUMN].rstrip('_')}_{kind}", {*taken, *names.values()})
    return names


def table_names(source: str, wanted: Iterable[str]) -> list[str]:
    """Return the tables' names, short enough for `stg_<source>__<table>`, and each only once."""
    room = LONGEST - len(f"stg_{source}__") - len("_99")
    names: list[str] = []
    for number, text in enumerate(wanted, 1):
        name = snake(text) or f"table_{number}"
        name = name if name[0].isalpha() else f"table_{name}"
        names.append(_free(name[:room].rstrip("_"), names))
    return names


def _free(name: str, taken: Iterable[str]) -> str:
    taken = set(taken)
    return next(one for one in (name, *(f"{name}_{n}" for n in range(2, 10_000))) if one not in taken)


def short(name: str) -> str:
    """Return a test's name in at most 55 bytes; a longer one keeps its beginning and gets a digest at the end."""
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{name[: LONGEST - 7].rstrip('_')}_{digest}"
