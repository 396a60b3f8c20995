"""What logs without groups have in common: one process reads every partition, each from where the warehouse is.

A second process is no help and does no harm: whichever commits first moves the position, and the other is fenced.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from granary.streams.log import Lag, Message, Run
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BATCH_BYTES = 8_388_608
"""How much one answer of a server may bring, unless a single message is larger."""


@dataclass
class Part:
    """One partition that is being read: `position` is the last that has landed, `sent` when that message was."""

    topic: str
    partition: str
    position: str | None = None
    sent: float = 0.0
    waiting: int | None = None
    ended: bool = False
    pending: list[tuple[str, Message]] = field(default_factory=list)
    """Messages that were received and not polled yet, each with the position behind it."""

    def run(self, rows: int) -> Run | None:
        """Return the next messages that were received, at most so many."""
        some, self.pending = self.pending[:rows], self.pending[rows:]
        if not some:
            return None
        messages = tuple(message for _, message in some)
        return Run(self.topic, self.partition, self.position, some[-1][0], messages)


AnyPart = TypeVar("AnyPart", bound=Part)


class Following(Generic[AnyPart]):
    """Partitions and their positions; what is of one kind of log is in its class."""

    def __init__(self) -> None:
        self.parts: dict[str, AnyPart] = {}

    def open(self, positions: Callable[[], Mapping[str, str]]) -> None:
        """Begin where the warehouse is; the log is asked by the first poll."""
        self._positions = positions

    def add(self, part: AnyPart) -> AnyPart:
        """Begin with a partition."""
        part.position = self._positions().get(part.partition)
        self.parts[part.partition] = part
        return part

    def landed(self, runs: Sequence[Run]) -> None:
        """Begin the next runs behind these."""
        for run in runs:
            part = self.parts[run.partition]
            part.position = run.end
            if run.messages:
                part.sent = run.messages[-1].at

    def rewind(self, positions: Mapping[str, str]) -> None:
        """Go back to these positions."""
        for part in self.parts.values():
            part.position = positions.get(part.partition)
            self.restart(part)

    def restart(self, part: AnyPart) -> None:
        """Forget what was received of a partition and has not landed."""
        part.pending, part.ended, part.waiting = [], False, None

    def wait(self, seconds: float) -> None:
        """Wait: there is no group to stay in."""
        time.sleep(seconds)

    def at_end(self) -> bool:
        """Return whether the last poll found the end of every partition."""
        return bool(self.parts) and all(part.ended and not part.pending for part in self.parts.values())

    def lag(self) -> list[Lag]:
        """Return how far each partition is behind what the last poll told of; nothing is asked of the log."""
        return [
            Lag(part.partition, part.position, part.waiting, age(part.sent) if part.waiting else 0.0)
            for _, part in sorted(self.parts.items())
        ]


def age(sent: float) -> float:
    """Return how old a message is, in seconds; zero if its time is unknown."""
    return round(max(0.0, time.time() - sent), 3) if sent > 0 else 0.0


def gone(partition: str, position: str | None) -> GranaryError:
    """Return the error for messages that were not read and cannot be."""
    return GranaryError(
        f"messages behind {position} are no longer in the log, or it was created again",
        partition,
        "what is gone has to come by another channel; then forget the position: `granary guide runbooks/stream-lag`",
    )
