"""What dbt makes of its events and of the server's answers in our processes: what somebody reads, as dbt makes it."""

from __future__ import annotations

import datetime
from io import StringIO
from typing import Any

import pytest
from dbt_common.clients import agate_helper
from dbt_common.events.base_types import EventLevel
from dbt_common.events.event_manager import EventManager
from dbt_common.events.logger import LoggerConfig
from dbt_common.events.types import Note

import dbt_granary


@pytest.fixture
def manager() -> EventManager:
    dbt_granary.install()
    return EventManager()


def logs(manager: EventManager, name: str, level: EventLevel) -> StringIO:
    """Have the manager write events from this level on, and return where to."""
    written = StringIO()
    manager.add_logger(LoggerConfig(name=name, level=level, output_stream=written, use_colors=False))
    return written


def test_an_event_that_no_log_takes_is_not_made(manager: EventManager) -> None:
    written = logs(manager, "of_info", EventLevel.INFO)
    quiet, loud = Note(msg="nobody reads this"), Note(msg="a table was built")
    manager.fire_event(quiet, level=EventLevel.DEBUG)
    manager.fire_event(loud, level=EventLevel.INFO)
    assert "a table was built" in written.getvalue()
    assert "nobody" not in written.getvalue()
    assert "pb_msg" not in quiet.__dict__
    assert quiet.msg == "nobody reads this", "it is made when it is asked for"
    quiet.msg = "changed"
    assert quiet.to_dict() == {"msg": "changed"}


def test_an_event_that_one_log_or_a_listener_takes_is_made(manager: EventManager) -> None:
    logs(manager, "of_warnings", EventLevel.WARN)
    detailed = logs(manager, "of_details", EventLevel.DEBUG)
    manager.fire_event(Note(msg="a detail"), level=EventLevel.DEBUG)
    assert "a detail" in detailed.getvalue()
    heard: list[str] = []
    listened = EventManager()
    listened.add_callback(lambda message: heard.append(message.data.msg))
    listened.fire_event(Note(msg="heard"), level=EventLevel.DEBUG)
    assert heard == ["heard"]


def test_the_types_of_an_answer_are_those_of_dbt(manager: EventManager) -> None:
    assert manager.loggers == []
    rows: list[Any] = [
        ("1", 7, None, datetime.date(2026, 3, 1), True),
        ("null", 8, "", datetime.date(2026, 3, 2), False),
    ]
    names = ["code", "number", "nothing", "day", "flag"]
    for _ in range(2):
        table = agate_helper.table_from_rows(rows, names, text_only_columns=["code"])
        assert [type(kind).__name__ for kind in table.column_types] == [
            "Text",
            "Integer",
            "Number",
            "Date",
            "Boolean",
        ]
        assert table.rows[1]["code"] == "null", "text stays what it is"
        plain = agate_helper.table_from_data_flat([dict(zip(names, row, strict=True)) for row in rows], names)
        assert [plain.rows[0][name] for name in names[:2]] == ["1", 7]
