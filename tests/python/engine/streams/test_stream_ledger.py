"""A stream in the run ledger: one run per process, its batches out of the ledger of loads, and how far it is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.streams.opening import open_stream
from granary.warehouse.errors import GranaryError
from tests.python.support.stream_servers import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings
    from tests.python.support.stream_servers import Broker

    Rows = Callable[..., list[tuple[object, ...]]]


def test_a_stream_is_a_run_and_its_batches_are_activities(kafka: Broker, warehouse: Settings, rows: Rows) -> None:
    kafka.send(event(0), event(1), b"{")
    open_stream(warehouse, "events").run(once=True)
    ((run_id, *run),) = rows("select run_id, kind, name, status, row_count, cpu_seconds >= 0 from ops.runs")
    assert run == ["stream", "events", "succeeded", 2, True]
    batches = (
        "select stage, source, sum(row_count)::int, min(run_id) from ops.activities where stage <> 'run' group by 1, 2"
    )
    assert rows(batches) == [("stream", "events", 2, run_id)]
    assert rows("select bool_and(data_at > now() - interval '1 hour') from ops.load_audit") == [(True,)]
    assert rows("select source, kind, sum(message_count)::int from ops.lags group by 1, 2") == [("events", "stream", 0)]


def test_a_stream_that_gives_up_has_failed(
    kafka: Broker, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = open_stream(warehouse, "events")
    monkeypatch.setattr(reading, "_poll", _give_up)
    with pytest.raises(GranaryError):
        reading.run(once=True)
    assert rows("select status, cause from ops.runs") == [("failed", "the log is gone")]


def _give_up() -> None:
    raise GranaryError("the log is gone")
