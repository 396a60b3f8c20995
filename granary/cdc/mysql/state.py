"""What is remembered of a capture between two commits: a position in the binary log, and the tables as last seen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from granary.cdc.mysql.gtid import GtidSet

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class TableState:
    """A captured table as last seen: the type of each column in the log.

    `copied` are the transactions that its copy holds, of a table that was added to a capture and copied by itself.
    """

    types: Mapping[str, str]
    copied: str = ""


@dataclass(frozen=True)
class State:
    """What the warehouse knows of a capture; it moves only with the rows, in their transaction.

    `gtid` are the transactions that are stored, `file` and `position` where the last one of them ends in the log of the
    server of this `server` id. `commits` counts the transactions since the first copy: the order of changes that also
    holds when another server takes over, whose files are others. `as_of` is the source's clock when the copy was last
    known to be complete.
    """

    phase: Literal["snapshot", "stream"]
    gtid: str = ""
    file: str = ""
    position: int = 0
    server: int = 0
    commits: int = 0
    as_of: str = ""
    tables: Mapping[str, TableState] = field(default_factory=dict)

    @property
    def lsn(self) -> str:
        """How far the log is stored, for people."""
        return f"{self.gtid or 'its beginning'} ({self.file}:{self.position})" if self.file else ""

    @property
    def stored(self) -> GtidSet:
        """The transactions that are stored."""
        return GtidSet.parse(self.gtid)

    def copied(self) -> dict[str, GtidSet]:
        """Return what the copies of tables hold that were added later, as long as the stream may still repeat it."""
        found = {name: GtidSet.parse(table.copied) for name, table in self.tables.items() if table.copied}
        return {name: copied for name, copied in found.items() if not self.stored.holds(copied)}

    def dump(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> State:
        """Return the state that `dump` wrote; of a capture of another kind of log, one that asks for a new copy."""
        values = json.loads(text)
        if "gtid" not in values:
            return cls("snapshot")
        tables = {name: TableState(**table) for name, table in values.pop("tables").items()}
        return cls(**values, tables=tables)
