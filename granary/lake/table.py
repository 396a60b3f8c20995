"""What the three formats of a lake have in common: a table's state, and a change that is made to it in one commit."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.readers.tables.place import Place

FILE_BYTES = 128 << 20
"""About what a file holds before another one is begun."""
MARK = "granary.mart"
PUBLISH = "granary.publish-id"
NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Part:
    """One partition of a mart: its value as text and as SQL, and by what a change of it is seen."""

    key: str | None
    literal: str
    rows: int
    digest: str

    def value(self, kind: pa.DataType) -> Any:
        """Return the value in Python, of a partition column of this type."""
        if self.key is None:
            return None
        if pa.types.is_date(kind):
            return date.fromisoformat(self.key)
        if pa.types.is_boolean(kind):
            return self.key == "true"
        return int(self.key) if pa.types.is_integer(kind) else self.key


@dataclass(frozen=True)
class State:
    """What a table in the lake is now. `version` is another one after each commit, whoever makes it."""

    version: str
    mart: str
    schema: pa.Schema
    partition_by: str | None


@dataclass(frozen=True)
class Change:
    """What a table is to become: all of it anew, or the partitions that changed; `read` yields a partition's rows."""

    mart: str
    publish_id: int
    schema: pa.Schema
    partition_by: str | None
    whole: bool
    changed: tuple[Part, ...]
    gone: tuple[Part, ...]
    read: Callable[[Part], Iterator[pa.RecordBatch]]

    def values(self) -> list[Any]:
        """Return the values of the partitions that are replaced or go."""
        assert self.partition_by is not None
        kind = self.schema.field(self.partition_by).type
        return [part.value(kind) for part in (*self.changed, *self.gone)]


class LakeTable(Protocol):
    """A table of one format at one place."""

    where: str

    def state(self) -> State | None:
        """Return what it is now, None if there is none."""
        ...

    def write(self, change: Change, before: State | None) -> str:
        """Make a change in one commit, and return the version after it. Before the commit readers see nothing of it."""
        ...

    def purge(self) -> int:
        """Delete what only earlier versions have, and return how many files that were: they can be read no more."""
        ...


@contextmanager
def explained(place: Place, where: str) -> Iterator[None]:
    """Turn what the libraries raise into words, without a secret."""
    try:
        yield
    except (GranaryError, AssertionError):
        raise
    except Exception as error:  # the libraries share no base class
        words = " ".join(str(error).split())
        for secret in filter(None, place.secrets.values()):
            words = words.replace(secret, "…")
        kind = type(error).__name__
        what = f"the lake refuses it: {kind}: {words[:300]}" if words else f"the lake refuses it: {kind}"
        raise GranaryError(what, where, "check the address, the credentials and the server") from None
