"""The source `events` as tests of every kind of log and queue read it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from granary.sources.discovery import SOURCES
from granary.streams import opening
from granary.streams.loop import Limits
from granary.streams.opening import open_stream
from granary.warehouse.errors import GranaryError
from tests.python.support.stream_servers import TOPIC, event

if TYPE_CHECKING:
    from granary.streams.log import Run
    from granary.streams.loop import StreamLoop
    from granary.warehouse.settings import Settings


def stream(settings: Settings, **limits: float) -> StreamLoop:
    """Return a stream with small batches, which gives up soon."""
    chosen: dict[str, Any] = {"seconds": 0.1, "patience_seconds": 30} | limits
    return open_stream(settings, "events", Limits(**chosen))


def read(settings: Settings, **limits: float) -> tuple[int, int, int]:
    """Read what is there, and return how many rows that was, how many landed, and how many were refused."""
    counts = stream(settings, **limits).run(once=True)
    return counts.rows_read, counts.rows_loaded, counts.rows_quarantined


def refused(settings: Settings, **limits: float) -> str:
    """Return the words with which reading ends."""
    with pytest.raises(GranaryError) as caught:
        read(settings, **limits)
    return str(caught.value)


def declare(monkeypatch: pytest.MonkeyPatch, topics: dict[str, str] | None = None, **changes: Any) -> None:
    """Let the source have other topics, and its table `card_scans` a contract with changes.

    A topic of another table gives it one of its own, with the same contract.
    """
    source = SOURCES["events"]
    assert source.stream is not None
    wanted = topics or {TOPIC: TOPIC}
    tables = tuple(replace(source.table("card_scans"), **(changes | {"name": name})) for name in wanted)
    made = replace(source, tables=tables, stream=replace(source.stream, topics=wanted))
    monkeypatch.setattr(opening, "SOURCES", {"events": made})


def written(*numbers: int, **changes: object) -> list[tuple[str, bytes]]:
    """Return scans as JSON, each with an id of its message."""
    return [(f"m{number}", json.dumps(event(number, **changes)).encode()) for number in numbers]


def polled(loop: StreamLoop, messages: int) -> list[Run]:
    """Open a stream and poll so many messages, or for a moment."""
    loop.log.open(loop.positions)
    runs = loop.log.poll(max(messages, 1), 30 if messages else 0.1)
    assert sum(len(run.messages) for run in runs) == messages
    return runs
