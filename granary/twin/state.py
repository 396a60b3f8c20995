"""Where the twin stands: the publish that each copy is at, its size, and how far it is behind what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.twin import catalog, config, ledger
from granary.twin.copies import COPIES
from granary.warehouse.connection import connect, query, quote_name
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

SIZE = "select count(*), coalesce(sum(file_size_bytes), 0)::bigint from ({files}) as files"
BEHIND = """
    select count(*), coalesce(extract(epoch from now() - min(finished_at)), 0)::float8
    from ops.publishes where schema_name = $1 and publish_id > $2
"""


@dataclass(frozen=True)
class CopyState:
    """A copy: the last publish that it has, how many it has, and what it takes of the disk (all of them)."""

    catalog: str
    reader: str
    publish_id: int | None
    publishes: int
    marts: int
    files: int
    bytes: int
    folder: str


@dataclass(frozen=True)
class State:
    """Both copies, the publishes that they are behind, and for how many seconds; marts that they cannot hold."""

    copies: tuple[CopyState, ...]
    behind: int
    behind_seconds: float
    refused: dict[str, str]

    def __str__(self) -> str:
        """Say it in a sentence."""
        if all(one.publish_id is None for one in self.copies):
            return "There is no twin yet: `granary twin sync` makes it."
        if not self.behind:
            return "The twin is at the publish that is shown."
        what = f"{plural(self.behind, 'publish')}"
        return f"The twin is {what} behind, for {self.behind_seconds:,.0f} s: `granary twin sync` brings it on."


def look(settings: Settings) -> State:
    """Return where the twin stands.

    Raises:
        GranaryError: the project has none.
    """
    config.required(settings)
    copies: list[CopyState] = []
    refused: dict[str, str] = {}
    at: list[int] = []
    with connect(settings, role="transformer") as connection:
        for copy in COPIES:
            labels = catalog.labels(connection, copy.catalog)
            if not labels:
                copies.append(CopyState(copy.catalog, copy.reader, None, 0, 0, 0, 0, ""))
                continue
            last = labels[-1]
            sized = SIZE.format(files=catalog.FILES.format(schema=quote_name(copy.catalog)))
            ((files, size),) = query(connection, sized)
            place = catalog.folder(connection, copy.catalog)
            copies.append(
                CopyState(
                    copy.catalog, copy.reader, last.event, len(labels), len(last.marts), files, size, str(place)
                )
            )  # fmt: skip
            refused.update(last.refused)
            at.append(last.event)
        ((behind, seconds),) = query(connection, BEHIND, ledger.SCHEMA, min(at, default=0))
    return State(tuple(copies), int(behind), float(seconds), refused)
