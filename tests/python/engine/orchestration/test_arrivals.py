"""What starts runs by itself: files that arrive, rows that landed, tables that are due; and what starts none."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.dagster import arrivals, automation
from granary.dagster.arrivals import builds, landed, landing_zone
from granary.dagster.instance import EVERYTHING, IN_PROCESS
from granary.dagster.loader_assets import key_of, loaders, partitions
from granary.dagster.resources import Warehouse
from granary.load.api import load_table
from granary.sources.discovery import SOURCES
from granary.sources.spec import Column, Table
from granary.sources.units import Unit
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

RECEIPTS, PRICES = dg.AssetKey(["till", "receipts"]), dg.AssetKey(["till", "prices"])
DAY = date(2017, 3, 12)


@dg.asset(deps=[RECEIPTS])
def sales() -> None:
    """Follow from receipts."""


@dg.asset(deps=[PRICES])
def price_list() -> None:
    """Follow from prices."""


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    """Return the loads of the shop, and an asset that follows from each table of the till."""
    days = partitions(date(2017, 12, 31))
    return dg.Definitions(
        assets=[*loaders(days), sales, price_list],
        jobs=[dg.define_asset_job(EVERYTHING, dg.AssetSelection.all())],
        resources={"warehouse": Warehouse()},
    )


class Place:
    """A landing zone whose listing is a list of units, and what the ledger does not know of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.units: dict[str, list[Unit]] = {"receipts": [], "prices": []}
        self.waiting: set[str] = set()
        self.asked = 0
        monkeypatch.setattr(arrivals, "listings", self.listings)
        monkeypatch.setattr(arrivals.api, "waiting", self.ask)

    def listings(self, _: Settings) -> Iterator[Any]:
        source = SOURCES["till"]
        yield from ((source, table, list(self.units[table.name])) for table in source.tables)

    def ask(self, _: Settings, __: str, table: Table, units: list[Unit]) -> list[Unit]:
        self.asked += 1
        return [unit for unit in units if unit.name in self.waiting]

    def deliver(self, table: str, name: str, day: date | None = None) -> None:
        self.units[table].append(Unit(name, version=f"{name} 1", date=day))
        self.waiting.add(name)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(monkeypatch)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the tables be those of the shop, whichever project was imported first."""
    tables = [key_of(source.name, table.name) for source in SOURCES.values() for table in source.tables]
    monkeypatch.setattr(arrivals, "KEYS", tables)


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Have the project be one that was built whole, until a test says otherwise."""
    answers = [True]
    monkeypatch.setattr(arrivals.last_build, "was_of", lambda *_: answers[-1])
    return answers


class Daemon:
    """Evaluates a sensor as the daemon does, with the cursor that it left."""

    def __init__(self, sensor: Any, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.sensor, self.definitions, self.instance = sensor, definitions, instance
        self.cursor: str | None = None

    def tick(self) -> list[dg.RunRequest]:
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.definitions.get_repository_def(),
            resources={"warehouse": Warehouse()},
        ) as context:
            found = self.sensor(context)
        if isinstance(found, dg.SkipReason):
            return []
        self.cursor = found.cursor
        return list(found.run_requests or [])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def zone(definitions: dg.Definitions, instance: dg.DagsterInstance, warehouse: Settings) -> Daemon:
    del warehouse
    return Daemon(landing_zone, definitions, instance)


def names(request: dg.RunRequest) -> set[str]:
    return {key.path[-1] for key in request.asset_selection or ()}


def test_a_new_file_starts_one_run_of_its_table_and_what_follows(place: Place, zone: Daemon) -> None:
    assert zone.tick() == []
    place.deliver("prices", "prices/week-11.parquet")
    (request,) = zone.tick()
    assert names(request) == {"prices", "price_list"}
    assert (request.partition_key, request.tags) == (None, {})
    assert zone.tick() == [], "it was asked for"


def test_before_the_first_whole_build_everything_is_run(place: Place, zone: Daemon, built: list[bool]) -> None:
    built.append(False)
    place.deliver("prices", "prices/week-11.parquet")
    (request,) = zone.tick()
    assert request.asset_selection is None, "the whole job"
    assert request.partition_key is not None


def test_days_that_arrive_together_are_one_run_over_them(place: Place, zone: Daemon) -> None:
    for offset in range(3):
        place.deliver("receipts", f"receipts/{offset}.parquet", DAY + timedelta(days=offset))
    place.deliver("prices", "prices/week-11.parquet")
    (request,) = zone.tick()
    assert names(request) == {"receipts", "prices", "sales", "price_list"}
    assert request.partition_key == "2017-03-14"
    assert request.tags == {"granary/window": "2017-03-12/2017-03-14"}


def test_where_nothing_changed_the_warehouse_is_not_even_asked(place: Place, zone: Daemon) -> None:
    place.units["prices"].append(Unit("prices/old.parquet", version="1"))
    assert zone.tick() == []
    asked = place.asked
    for _ in range(3):
        assert zone.tick() == []
    assert place.asked == asked == 2
    place.units["prices"][0] = Unit("prices/old.parquet", version="2")
    place.waiting.add("prices/old.parquet")
    assert [names(one) for one in zone.tick()] == [{"prices", "price_list"}]


def test_while_a_run_is_at_work_what_arrives_waits_for_it(
    place: Place, zone: Daemon, instance: dg.DagsterInstance
) -> None:
    run = dg.DagsterRun(job_name=EVERYTHING, run_id="0" * 8, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    place.deliver("prices", "prices/week-11.parquet")
    assert zone.tick() == []
    instance.delete_run(run.run_id)
    assert len(zone.tick()) == 1


def test_what_a_run_did_not_load_is_asked_for_again_after_an_hour(place: Place, zone: Daemon) -> None:
    place.deliver("prices", "prices/week-11.parquet")
    (first,) = zone.tick()
    assert zone.tick() == []
    cursor = json.loads(str(zone.cursor))
    before = datetime.fromisoformat(cursor["till.prices"]["asked"]) - timedelta(minutes=61)
    cursor["till.prices"]["asked"] = before.isoformat()
    zone.cursor = json.dumps(cursor)
    place.waiting.clear()
    assert zone.tick() == [], "it has landed since"
    place.waiting.add("prices/week-11.parquet")
    zone.cursor = json.dumps(cursor)
    (again,) = zone.tick()
    assert names(again) == names(first)


def test_a_place_that_cannot_be_looked_at_holds_up_no_other(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("GRANARY_EVENTS_LANDING", str(tmp_path / "nowhere"))
    (tmp_path / "till" / "receipts").mkdir(parents=True)
    (tmp_path / "till" / "receipts" / "2017-03-12.parquet").touch()
    monkeypatch.setenv("GRANARY_TILL_LANDING", str(tmp_path / "till"))
    found = {table.name: [unit.date for unit in units] for _, table, units in arrivals.listings(warehouse)}
    assert found == {"receipts": [DAY], "prices": []}


def land(settings: Settings, run_id: str, source: str = "till", table: str = "prices") -> None:
    """Write a load into the ledger."""
    with connect(settings) as connection:
        execute(
            connection,
            "insert into ops.load_audit (load_id, source, table_name, run_id, unit, status, rows_read, rows_loaded,"
            " rows_quarantined, rows_deleted, bytes, seconds, started_at) select coalesce(max(load_id), 0) + 1,"
            " $1, $2, $3, 'u', 'loaded', 1, 1, 0, 0, 1, 1, now() from ops.load_audit",
            source,
            table,
            run_id,
        )
        connection.commit()


def test_rows_that_landed_by_themselves_are_built_on_once(
    definitions: dg.Definitions, instance: dg.DagsterInstance, warehouse: Settings
) -> None:
    daemon = Daemon(landed, definitions, instance)
    assert daemon.tick() == []
    land(warehouse, "")
    (request,) = daemon.tick()
    assert names(request) == {"price_list"}
    assert daemon.tick() == []
    land(warehouse, "", "gone", "away")
    assert daemon.tick() == [], "no loader has that table"


def test_what_a_run_builds_itself_is_not_built_again(instance: dg.DagsterInstance) -> None:
    def run(run_id: str, selection: set[dg.AssetKey] | None, **tags: str) -> bool:
        instance.add_run(
            dg.DagsterRun(
                job_name=EVERYTHING,
                run_id=run_id,
                asset_selection=frozenset(selection) if selection else None,
                tags={name.replace("_", "/", 1): value for name, value in tags.items()},
            )
        )
        return builds(instance, run_id)

    assert run("whole", None)
    assert run("both", {PRICES, price_list.key})
    assert not run("polled", {PRICES})
    assert run("command", {PRICES}, granary_in_process="true")
    assert IN_PROCESS == "granary/in_process"
    assert not builds(instance, "")
    assert not builds(instance, "deleted")


def test_a_file_in_the_shop_s_landing_zone_is_loaded_by_what_the_sensor_asks_for(
    definitions: dg.Definitions, instance: dg.DagsterInstance, warehouse: Settings, monkeypatch: Any, tmp_path: Any
) -> None:
    """With the real reader and ledger: what has landed is nothing new, whoever loaded it."""
    (tmp_path / "prices").mkdir()
    rows = pa.table({"article_id": [1, 2], "week": [11, 11], "price": [1.5, 2.5]})
    pq.write_table(rows, tmp_path / "prices" / "week-11.parquet")
    monkeypatch.setenv("GRANARY_TILL_LANDING", str(tmp_path))
    daemon = Daemon(landing_zone, definitions, instance)
    (request,) = daemon.tick()
    assert names(request) == {"prices", "price_list"}
    assert load_table(warehouse, "till", "prices").rows_loaded == 2
    fresh = Daemon(landing_zone, definitions, instance)
    assert fresh.tick() == []


def polled_table(**options: Any) -> Table:
    column = Column("id", pa.int64(), "Key.", nullable=False)
    return Table("members", "Members.", "members", (column,), "merge", timedelta(days=1), ("id",), **options)


@pytest.mark.parametrize(
    ("every", "cron"),
    [
        (timedelta(minutes=1), "*/1 * * * *"),
        (timedelta(minutes=15), "*/15 * * * *"),
        (timedelta(hours=1), "0 */1 * * *"),
        (timedelta(hours=6), "0 */6 * * *"),
        (timedelta(days=1), "0 0 * * *"),
    ],
)
def test_a_contract_says_how_often_a_table_is_polled(every: timedelta, cron: str) -> None:
    assert polled_table(poll=every).poll == every
    assert automation.cron(every) == cron


@pytest.mark.parametrize(
    "options",
    [
        {"poll": timedelta(minutes=7)},
        {"poll": timedelta(seconds=30)},
        {"poll": timedelta(hours=5)},
        {"poll": timedelta(days=2)},
        {"poll": timedelta(0)},
        {"poll": timedelta(hours=1), "partition": "day"},
    ],
)
def test_a_poll_that_no_clock_can_keep_is_refused(options: Any) -> None:
    with pytest.raises((ValueError, GranaryError), match="poll"):
        polled_table(**options)


def test_a_polled_table_is_loaded_when_its_time_has_come_and_once_after_days_of_downtime() -> None:
    @dg.asset(automation_condition=automation.polled(timedelta(minutes=15)))
    def members() -> None: ...

    definitions = dg.Definitions([members])
    assert members.automation_conditions_by_key[members.key].get_label() == "polled"
    with dg.DagsterInstance.ephemeral() as instance:

        def asked(at: datetime, cursor: Any) -> tuple[int, Any]:
            found = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor, evaluation_time=at)
            return found.total_requested, found.cursor

        at = datetime(2026, 3, 12, 8, 1, tzinfo=timezone.utc)
        requested, cursor = asked(at, None)
        assert requested == 0
        requested, cursor = asked(at + timedelta(minutes=5), cursor)
        assert requested == 0
        requested, cursor = asked(at + timedelta(minutes=15), cursor)
        assert requested == 1
        requested, cursor = asked(at + timedelta(minutes=16), cursor)
        assert requested == 0
        requested, cursor = asked(at + timedelta(days=3), cursor)
        assert requested == 1
        assert asked(at + timedelta(days=3, minutes=1), cursor)[0] == 0


def test_nothing_looks_where_no_table_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arrivals.polling() == []
    polled = replace(SOURCES["office"], tables=(replace(SOURCES["office"].tables[0], poll=timedelta(hours=1)),))
    monkeypatch.setattr(arrivals, "SOURCES", {**SOURCES, "office": polled})
    (sensor,) = arrivals.polling()
    assert sensor.asset_selection == dg.AssetSelection.assets(dg.AssetKey(["office", "members"]))
