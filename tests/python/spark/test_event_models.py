"""A model of events by Spark, as they come, is what the batch makes of them, late and repeated ones included."""

from __future__ import annotations

import json
import shutil
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from dbt.cli.main import dbtRunner

from demo import retailer
from granary.load.api import load_table
from granary.privacy.locations import locate
from granary.sources.select import select
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.project import PROJECT
from tests.python.support.stream_servers import Broker, command, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

pytest.importorskip("pyspark", reason="Spark is an extra: pip install 'granary-elt[spark]'")
if not shutil.which("java"):
    pytest.skip("Spark needs Java", allow_module_level=True)

HOUSEHOLDS = 30
MODELS = ("stg_events__coupon_redemptions", "int_redemptions__changed_dates", "fct_coupon_redemptions")
TOPIC = "coupon_redemptions"
RAW, BUILT = "raw_events.coupon_redemptions", "build.fct_coupon_redemptions"
FRESH, STREAM = "fresh.fct_coupon_redemptions", "fresh.fct_coupon_redemptions__stream"


class Year:
    """A slice of the sample's year with everything loaded and built but the events."""

    def __init__(self, settings: Settings, target: Path) -> None:
        self.settings, self.target = settings, target
        folder = settings.home / "demo" / "landing" / "events" / "coupon_redemptions"
        self.events = [json.loads(line) for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]

    def build(self, *selection: str) -> None:
        done = dbtRunner().invoke(
            [
                *("build", "--exclude-resource-type", "test", "unit_test", *selection),
                *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
                *("--target-path", str(self.target), "--log-path", str(self.target)),
                *("--log-level", "none", "--log-level-file", "none", "--threads", "2"),
            ]
        )
        assert done.success, [r.message for r in getattr(done.result, "results", []) if r.status == "error"]

    def rows(self, relation: str) -> list[tuple[Any, ...]]:
        """Return every row of a relation, as text, with its load."""
        with connect(self.settings) as connection:
            return query(connection, f"select t.*::text from {relation} as t order by 1")

    def by_spark(self, **environment: str) -> int:
        code, _, err = ended(
            command("stream", "events", "--once", "--spark", "local[2]", "--batch-rows", "20", **environment), 300
        )
        assert code <= 0, err
        return code


def opened(settings: Settings, target: Path) -> Year:
    """Return a slice of the year whose events have not come, with all loaded and built that their model reads."""
    retailer.open_for_business(settings, households=HOUSEHOLDS)
    retailer.advance(settings, date(2017, 12, 31))
    with retailer.systems(settings):
        for source, table in select([]):
            load_table(settings, source, table, dry_run=source == "events")
    with connect(settings) as connection:
        execute(connection, "set role loader")
        execute(connection, "create schema raw_events")
        execute(connection, "grant usage on schema raw_events to transformer")
        columns = "event_id text primary key, type text, occurred_at timestamptz, household_id bigint"
        more = "coupon_upc bigint, campaign_id bigint, _load_id bigint not null, _row integer not null"
        execute(connection, f"create table {RAW} ({columns}, {more})")
        execute(connection, f"create index on {RAW} using brin (_load_id)")
        connection.commit()
    year = Year(settings, target)
    year.build("--select", "+fct_coupon_redemptions")
    return year


@pytest.fixture(scope="module")
def year(make_warehouse: Callable[[str], Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Year]:
    settings = make_warehouse("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRANARY_HOME", str(settings.home))
        patch.setenv("PGDATABASE", settings.database)
        yield opened(settings, tmp_path_factory.mktemp("target"))


def test_stream_and_batch_are_the_same(year: Year, kafka_server: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka_server.topic(TOPIC, partitions=2)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka_server.address(group="models"))

    def send(events: list[dict[str, Any]]) -> None:
        kafka_server.produce(((n % 2, json.dumps(one).encode()) for n, one in enumerate(events)), TOPIC)

    half = len(year.events) // 2
    later, earlier = year.events[half:], year.events[:half]
    assert half > 10
    # The later half first, some of it twice; the driver is killed before it commits its second batch.
    send(later[::-1] + later[:5])
    assert year.by_spark(GRANARY_KILL_AT="spark-before-commit:2") == -9
    assert 0 < len(year.rows(FRESH)) < len(later)
    assert year.by_spark() == 0
    streamed = year.rows(FRESH)
    assert len(streamed) == len(later)
    assert year.rows(BUILT) == []
    year.build("--select", *MODELS)
    assert year.rows(BUILT) == streamed
    assert year.rows(FRESH) == streamed

    # Then what is late, and everything again, killed after a commit: in the view beside what was built before.
    send(earlier + later)
    assert year.by_spark(GRANARY_KILL_AT="spark-after-commit:1") == -9
    assert year.by_spark() == 0
    streamed = year.rows(FRESH)
    assert len(streamed) == len(year.events)
    assert len(year.rows(STREAM)) == len(earlier)  # what the build has is no longer kept
    year.build("--select", *MODELS)
    assert year.rows(BUILT) == streamed == year.rows(FRESH)

    # A full refresh from raw gives the same again, and takes the view with it: the next batch makes it anew.
    year.build("--full-refresh", "--select", *MODELS)
    assert year.rows(BUILT) == streamed
    assert year.by_spark() == 0
    assert year.rows(FRESH) == streamed

    # Who is forgotten is looked for there, too; analysts with masks may not read it.
    kept = {place.name for place in locate(year.settings).kept}
    assert STREAM in kept
    with connect(year.settings) as connection:
        granted = (
            "select has_table_privilege('analyst_pii', $1, 'select'), has_schema_privilege('analyst', 'fresh', 'usage')"
        )
        assert query(connection, granted, FRESH) == [(True, False)]
