"""`granary doctor SOURCE` at streams, and the guide's example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer import Typer
from typer.testing import CliRunner

from granary.cli import doctor
from granary.kinds.examination import examine
from granary.load.api import load_table
from granary.sources import discovery
from granary.streams.opening import open_stream
from granary.warehouse.connection import connect, query
from tests.python.support.worked_examples import example

if TYPE_CHECKING:
    from pathlib import Path

    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings
    from tests.python.support.stream_servers import Broker

LATE = '{"event_id": "b", "page": "/late", "at": "2024-02-29T12:00:00Z"}\n'


@pytest.fixture
def events(kafka_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Return the guide's source, with an empty topic and a folder."""
    kafka_server.topic("shop-clicks")
    (tmp_path / "clicks").mkdir()
    address = kafka_server.address(group=tmp_path.name)
    source = example("streams", monkeypatch, GRANARY_EVENTS_FILES=str(tmp_path), GRANARY_EVENTS_STREAM=address)
    known = {"events": source}
    for module in ("granary.streams.opening", "granary.kinds.examination"):
        monkeypatch.setattr(f"{module}.SOURCES", known)
    monkeypatch.setattr(discovery, "SOURCES", known)
    return source


def test_the_guide_s_example(events: Source, warehouse: Settings, kafka_server: Broker, tmp_path: Path) -> None:
    """An event by the log, and another that comes late, as a file, with one that is known."""
    click = {"event_id": "a", "page": "/", "at": "2024-02-29T12:01:00Z"}
    kafka_server.send(click, topic="shop-clicks")
    open_stream(warehouse, "events").run(once=True)
    (tmp_path / "clicks" / "1.jsonl").write_text(LATE + LATE.replace('"b"', '"a"'))
    load_table(warehouse, "events", "clicks")
    with connect(warehouse) as connection:
        found = query(connection, "select event_id, page from raw_events.clicks order by event_id")
    assert found == [("a", "/"), ("b", "/late")]


def test_what_is_set_is_looked_at(
    events: Source, warehouse: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "clicks" / "1.jsonl").write_text(LATE)
    well = examine(warehouse, events.name)
    assert (well.findings, well.left_out) == (
        (),
        (
            "the log's clock: kafka does not tell it",
            "webhooks: GRANARY_EVENTS_WEBHOOK_SECRETS is not set",
        ),
    )
    monkeypatch.setenv("GRANARY_EVENTS_WEBHOOK_SECRETS", "too-short")
    monkeypatch.delenv("GRANARY_EVENTS_STREAM")
    ill = examine(warehouse, events.name)
    assert [one.what for one in ill.findings] == ["GRANARY_EVENTS_WEBHOOK_SECRETS has a secret of less than 16 bytes"]
    assert ill.left_out == ("the log: GRANARY_EVENTS_STREAM is not set",)
    assert "too-short" not in f"{ill}"


def test_the_command_says_what_to_do(events: Source, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Typer()
    doctor.register(app)
    monkeypatch.setattr(doctor, "ready", lambda: warehouse)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", "kafka://127.0.0.1:1?format=xml")
    result = CliRunner().invoke(app, [events.name], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "GRANARY_EVENTS_STREAM has a format" in result.output
    assert "there is nothing to load (hint)" in result.output
