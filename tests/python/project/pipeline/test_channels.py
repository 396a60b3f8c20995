"""The same events by file, webhook and Kafka give the same marts, in whatever order; and a replay gives them again."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from demo import retailer
from granary.cli.main import app
from granary.dbt.rebuild import replay
from granary.load.api import load_table
from granary.sources.select import select
from granary.streams.opening import open_stream
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.project.pipeline.conftest import Pipeline
from tests.python.support.webhook_sender import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings
    from tests.python.support.stream_servers import Broker

HOUSEHOLDS = 30
TOPIC = "coupon_redemptions"
FACT, RAW = "marts.fct_coupon_redemptions", "raw_events.coupon_redemptions"
CONTENT = "select to_jsonb(t) - 'load_id' - '_load_id' - '_row' as row from {} as t order by 1"
"""What a row says, without the load that brought it."""


class Year(Pipeline):
    """A slice of the sample retailer's year, with everything loaded and built but the events."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events that its files have."""
        folder = self.settings.home / "demo" / "landing" / "events" / "coupon_redemptions"
        return [json.loads(line) for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]

    def build(self, *selection: str) -> None:
        self.dbt("build", "--exclude-resource-type", "test", "unit_test", *selection)

    def forget(self) -> None:
        """Empty the event table, as if no channel had delivered anything."""
        with connect(self.settings) as connection:
            execute(connection, f"truncate {RAW}")
            for table in ("ops.watermarks", "ops.load_audit"):
                execute(connection, f"delete from {table} where source = 'events'")
            connection.commit()

    def by_file(self) -> None:
        with retailer.systems(self.settings):
            load_table(self.settings, "events", "coupon_redemptions")

    def by_kafka(self, kafka: Broker, events: list[dict[str, Any]]) -> None:
        kafka.produce(((number % 2, json.dumps(one).encode()) for number, one in enumerate(events)), TOPIC)
        open_stream(self.settings, "events").run(once=True)

    def by_webhook(self, events: list[dict[str, Any]]) -> None:
        with serving(self.settings, TOPIC) as (sender, _):
            for start in range(0, len(events), 7):
                assert sender.post(events[start : start + 7])[0] == 202


@pytest.fixture
def kafka(kafka_server: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """Return the broker with an empty topic of two partitions that the source `events` reads."""
    kafka_server.topic(TOPIC, partitions=2)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka_server.address(group="channels"))
    return kafka_server


@pytest.fixture(scope="module")
def year(make_warehouse: Callable[[str], Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Year]:
    settings = make_warehouse("channels")
    year = Year(settings, tmp_path_factory.mktemp("target"))
    with year.at_hand():
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
            execute(connection, f"create index coupon_redemptions_load_id on {RAW} using brin (_load_id)")
            connection.commit()
        year.build("--select", "@source:events")  # all that follows from events, and what that needs
        yield year


@pytest.mark.long
def test_marts_are_the_same_whichever_way_events_come(year: Year, kafka: Broker) -> None:
    """Late first: Kafka brings the second half backwards, a webhook the first with some again, files bring all."""
    events = year.events
    half = len(events) // 2
    assert len(events) > 20
    year.by_kafka(kafka, events[half:][::-1])
    year.build("--select", "source:events+")
    year.by_webhook(events[: half + 5] + events[:3])
    year.by_file()
    year.build("--select", "source:events+")
    by_all = year.query(CONTENT.format(FACT))
    assert len(by_all) == len(events)
    channels = "select distinct left(unit, 19) from ops.load_audit as l inner join {} as r on l.load_id = r._load_id"
    assert {unit for (unit,) in year.query(channels.format(RAW))} == {"coupon_redemptions[", "webhook"}

    # The same, rebuilt from raw: every mart to the last bit.
    before = year.marts()
    done = CliRunner().invoke(app, ["replay", "events.coupon_redemptions", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told["relations"]) >= {"stg_events__coupon_redemptions", "int_redemptions__changed_dates"}
    assert "fct_coupon_redemptions" in told["relations"]
    assert "fct_sales" not in told["relations"]
    assert told["tests_passed"] > 5
    assert year.marts() == before

    # The same by files alone.
    raw = year.query(CONTENT.format(RAW))
    year.forget()
    year.by_file()
    year.build("--full-refresh", "--select", "source:events+")
    assert year.query(CONTENT.format(FACT)) == by_all
    assert year.query(CONTENT.format(RAW)) == raw

    # By Kafka alone and by webhook alone raw is the same, and so is what follows from it.
    kafka.topic(TOPIC, partitions=2)
    year.forget()
    year.by_kafka(kafka, events)
    assert year.query(CONTENT.format(RAW)) == raw
    year.forget()
    year.by_webhook(events)
    assert year.query(CONTENT.format(RAW)) == raw


def test_replay_of_nothing(year: Year) -> None:
    with pytest.raises(GranaryError, match="dbt knows no source nowhere"):
        replay(year.settings, "nowhere")
