"""What a stream by Spark decides without Spark: what has landed, which checkpoints count, which models fit."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from granary.spark.streaming.batches import not_landed
from granary.spark.streaming.job import forget_if_ahead, open_spark_stream
from granary.spark.streaming.models import parsed
from granary.streams.log import Message, Run
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from granary.warehouse.settings import Settings


def run(start: int, end: int, lines: Sequence[int], partition: str = "t[0]") -> Run:
    return Run("t", partition, str(start), str(end), tuple(Message(b"{}", line) for line in lines))


def told(runs: Sequence[Run]) -> list[tuple[str, str | None, str, list[int | None]]]:
    return [(one.partition, one.start, one.end, [message.line for message in one.messages]) for one in runs]


def test_runs_of_a_partition_are_one_that_begins_where_the_warehouse_is() -> None:
    runs = [run(0, 3, [0, 1, 2]), run(3, 6, [4]), run(9, 9, [], "t[1]"), run(0, 2, [0, 1], "t[2]")]
    assert told(not_landed(runs, {"t[0]": "0", "t[1]": "9"})) == [
        ("t[0]", "0", "6", [0, 1, 2, 4]),
        ("t[2]", None, "2", [0, 1]),  # never begun
    ]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("2", [("t[0]", "2", "6", [2, 4])]),  # the other stream was here meanwhile
        ("3", [("t[0]", "3", "6", [4])]),
        ("5", [("t[0]", "5", "6", [])]),  # offsets without messages are passed, too
        ("6", []),  # Spark gives the batch again
        ("60", []),
    ],
)
def test_what_has_landed_is_left_out(position: str, expected: list[object]) -> None:
    assert told(not_landed([run(0, 3, [0, 1, 2]), run(3, 6, [4])], {"t[0]": position})) == expected


def test_a_gap_stops_the_stream() -> None:
    words = re.escape(
        "Spark begins at offset 3, and the warehouse holds what is before 2 (t[0]); start the stream again"
    )
    with pytest.raises(GranaryError, match=words):
        not_landed([run(3, 6, [4])], {"t[0]": "2"})
    with pytest.raises(GranaryError, match="Spark begins at offset 4"):
        not_landed([run(0, 3, [0]), run(4, 6, [4])], {"t[0]": "0"})


def checkpoint(folder: Path, **ends: int) -> Path:
    """Write a checkpoint whose first batch has ended there; a second one was planned."""
    for name, end in (("0", ends), ("1", {"t[0]": 99})):
        path = folder / "checkpoint" / "offsets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        offsets = {key.replace("_", "[") + "]": value for key, value in end.items()} if name == "0" else end
        path.write_text(f'v1\n{{"batchWatermarkMs":0}}\n{json.dumps(offsets)}')
    (folder / "checkpoint" / "commits").mkdir()
    (folder / "checkpoint" / "commits" / "0").write_text("v1\n{}")
    (folder / "checkpoint" / "commits" / ".0.crc").write_bytes(b"")
    return folder / "checkpoint"


def test_a_checkpoint_counts_for_as_long_as_the_warehouse_holds_what_it_says(tmp_path: Path) -> None:
    kept = checkpoint(tmp_path, t_0=5, t_1=0)
    forget_if_ahead(kept, {"t[0]": "5"})
    forget_if_ahead(kept, {"t[0]": "7", "t[1]": "3"})
    assert kept.exists()
    forget_if_ahead(kept, {"t[0]": "4"})  # restored from a backup
    assert not kept.exists()
    forget_if_ahead(kept, {})


@pytest.mark.parametrize("damage", ["forgotten", "unreadable", "nothing has ended"])
def test_a_checkpoint_that_says_nothing_is_begun_anew(tmp_path: Path, damage: str) -> None:
    kept = checkpoint(tmp_path, t_0=5)
    if damage == "unreadable":
        (kept / "offsets" / "0").write_text("v1\n{")
    elif damage == "nothing has ended":
        (kept / "commits" / "0").unlink()
    forget_if_ahead(kept, {} if damage == "forgotten" else {"t[0]": "5"})
    assert not kept.exists()


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ("select a, count(*) from raw_events.t group by a", "COUNT(*)"),
        ("select distinct a from raw_events.t", "DISTINCT"),
        ("select a, row_number() over (order by b) as n from raw_events.t", "ROW_NUMBER()"),
        ("select a from raw_events.t limit 3", "LIMIT 3"),
    ],
)
def test_a_model_that_needs_several_events_is_refused(sql: str, part: str) -> None:
    with pytest.raises(GranaryError, match=r"a stream cannot compute m: a row of it is made from several: ") as caught:
        parsed(sql, "m")
    assert part.strip() in str(caught.value)
    assert "take `fresh: true` from its meta" in str(caught.value)
    with pytest.raises(GranaryError, match="its SQL cannot be read"):
        parsed("select from where", "m")


def test_times_of_a_zone_are_the_same_in_spark() -> None:
    query = parsed("select cast(at at time zone 'America/New_York' as date) as day from raw_events.t", "m")
    assert query.sql(dialect="spark") == (
        "SELECT CAST(FROM_UTC_TIMESTAMP(at, 'America/New_York') AS DATE) AS day FROM raw_events.t"
    )


def test_other_logs_are_not_read_by_spark(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", "kinesis://eu-central-1")
    with pytest.raises(GranaryError, match=re.escape("Spark reads Kafka, and not kinesis (GRANARY_EVENTS_STREAM)")):
        open_spark_stream(settings, "events", "local[1]")
