"""What a log or a queue is to the loop that reads it: runs of messages with positions or ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from granary.sources.units import Rejected
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from granary.warehouse.records import Change

Positions = dict[str, str]
"""Partition, as in "redemptions[0]" -> the position after the last row that has landed, in the log's own words."""


class StreamStoppedError(Exception):
    """The stream was asked to end while it waited."""


class UnavailableError(GranaryError):
    """The warehouse or the log cannot be reached now: to be tried again."""


@dataclass(frozen=True)
class Message:
    """One message as received. `line` is where a person finds it: an offset; `at` is when it was sent (epoch, s).

    `again` is whether a queue may have given it before; False only where the server promises that it has not.
    """

    value: bytes | None
    line: int | None = None
    at: float = 0.0
    again: bool = True


@dataclass(frozen=True)
class Run:
    """Consecutive messages of one partition: from position `start` (None: the beginning) up to `end`.

    A queue has no positions to read from. Its runs have the `ids` of their messages instead (None: it came without),
    and `end` is when the newest of them was sent, in ISO 8601: people read it, nothing is read from there.
    """

    topic: str
    partition: str
    start: str | None
    end: str
    messages: tuple[Message, ...]
    ids: tuple[str | None, ...] | None = None


@dataclass(frozen=True)
class Lag:
    """How far a partition is behind: messages that wait (None where the log does not say), and seconds.

    Seconds are the age of the last message that has landed, or of the first that waits, and zero when none waits.
    """

    partition: str
    position: str | None
    messages: int | None
    seconds: float


@dataclass(frozen=True)
class Decoded:
    """Messages as rows: those that are Arrow, by their index those that are not, and what changed in their schema."""

    batch: pa.RecordBatch
    rejected: tuple[tuple[int, Rejected], ...] = ()
    changes: tuple[Change, ...] = field(default=())


class Decoder(Protocol):
    """How the bytes of a topic become rows."""

    def check(self, topic: str) -> list[str]:
        """Return what a person should know of the topic's schema before it is read."""
        ...

    def decode(self, topic: str, messages: Sequence[Message]) -> list[Decoded]:
        """Return the messages' rows in order, in runs of one schema."""
        ...


class Log(Protocol):
    """A partitioned log, or queues (`granary.streams.queues`). Where to read a log from is told by the warehouse only.

    `poll` and `wait` may find that partitions were given or taken; for those that were given, the log asks
    `positions`, which returns what the warehouse holds for them now.
    """

    kind: str

    def open(self, positions: Callable[[], Mapping[str, str]]) -> None:
        """Begin to read."""
        ...

    def poll(self, rows: int, seconds: float) -> list[Run]:
        """Return what arrives within so many seconds, at most so many messages; runs are of different partitions."""
        ...

    def landed(self, runs: Sequence[Run]) -> None:
        """Hear that runs are in the warehouse; tell whoever watches the log."""
        ...

    def rewind(self, positions: Mapping[str, str]) -> None:
        """Go back to these positions in every partition that is ours: what was polled has not landed."""
        ...

    def wait(self, seconds: float) -> None:
        """Stay a member without reading."""
        ...

    def at_end(self) -> bool:
        """Return whether everything that was there has been polled."""
        ...

    def lag(self) -> list[Lag]:
        """Return how far each partition of ours is behind."""
        ...

    def look(self, positions: Mapping[str, str]) -> list[Lag]:
        """Return how far these positions are behind, without becoming a member; the log is not read afterwards."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


@runtime_checkable
class TellsTime(Protocol):
    """A log whose server says what time it is."""

    def clock(self) -> float | None:
        """Return what time it is for the server, in seconds since 1970; None if this server does not say."""
        ...
