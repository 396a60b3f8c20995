"""Rows that a target refuses are in the quarantine: listed, shown, replayed and dropped as those of sources are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from granary.cli import quarantine as command
from granary.deliver import deliver as room
from granary.deliver import records, refused
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.engine.deliver.conftest import delivery
from tests.python.engine.deliver.test_changes import KEYS, counts

if TYPE_CHECKING:
    from granary.deliver.spec import HttpApi
    from granary.quarantine.replay import Entry
    from tests.python.engine.deliver.conftest import Send
    from tests.python.support.delivery_service import Service
    from tests.python.support.rides import Rides

SOURCE_ROW = (
    "insert into ops.quarantine (identity, load_id, source, table_name, unit, row_number, column_name, reason, payload,"
    " contract_version) values ($1, 1, 'till', 'receipts', 'a.parquet', 7, 'amount', 'is out of range', '{}', 1)"
)


def held(rides: Rides, **more: Any) -> list[Entry]:
    found = refused.entries(rides.settings, **more)
    assert found is not None
    return found


@pytest.fixture
def told(rides: Rides, api: HttpApi, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs `granary quarantine` in a project that has the delivery."""
    monkeypatch.setattr("granary.deliver.discovery.declared", lambda: ({"rentals_out": delivery(api)}, {}))
    monkeypatch.setattr("granary.cli.quarantine.Settings.load", lambda: rides.settings)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(command.quarantine, list(arguments), env={"COLUMNS": "200"})
        if done.exception and not isinstance(done.exception, SystemExit):
            return 1, str(done.exception)
        return done.exit_code, done.output

    return run


def test_what_a_target_refuses_is_kept_with_its_values(
    rides: Rides, service: Service, api: HttpApi, send: Send
) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 2
    assert counts(send(api)) == (3, 3, 0, 0, 1)
    assert sorted(service.rows) == [KEYS[0], KEYS[2]]
    (one,) = held(rides)
    assert (one.source, one.table, one.why, one.status) == (
        "deliveries", "rentals_out", "the service answered 422", "open",
    )  # fmt: skip
    assert one.place.startswith("API http://127.0.0.1:")
    assert one.payload["op"] == "insert"
    assert one.payload["key"] == {"rental": 2, "business_date": "2021-01-31"}
    assert (one.payload["row"]["rider"], one.payload["row"]["bikes"]) == ("masked", 2)
    assert send(api).rows == 0  # not sent again as long as it is the same
    with connect(rides.settings) as connection:
        assert query(connection, "select status, row_count, refused from ops.delivery_batches") == [("sent", 3, 1)]
        found = query(connection, "select source, table_name, status, row_count from ops.quarantine_state")
        assert found == [("deliveries", "rentals_out", "open", 1)]


def test_it_keeps_its_number_until_the_target_takes_it(
    rides: Rides, service: Service, api: HttpApi, send: Send, told: Any
) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 2
    send(api)
    (one,) = held(rides)
    code, words = told("replay", str(one.quarantine_id))
    assert (code, "0 landed, 1 refused" in words) == (1, True), words
    (again,) = held(rides)
    assert (again.quarantine_id, again.first_seen_at) == (one.quarantine_id, one.first_seen_at)
    assert again.last_seen_at > one.last_seen_at
    service.refuses = lambda _: False
    assert told("replay", "--table", "deliveries.rentals_out") == (
        0, "deliveries.rentals_out: 1 landed, 0 refused\n",
    )  # fmt: skip
    assert held(rides, status=None) == []
    assert sorted(service.rows) == KEYS
    assert sorted(service.events) == [("insert", key) for key in KEYS]
    with connect(rides.settings) as connection:
        noted = query(connection, "select action, object, details from ops.audit_trail where action like 'quarantine%'")
    assert noted == [("quarantine replayed", "deliveries.rentals_out", "1 row")]


def test_a_replay_sends_nothing_new(rides: Rides, service: Service, api: HttpApi, send: Send, told: Any) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 2
    send(api)
    rides.run("insert into build.rentals select 4, 'Cy', '2021-02-02', 3, 1")
    rides.publish()
    service.refuses = lambda _: False
    assert told("replay", "--table", "deliveries")[0] == 0
    assert sorted(service.rows) == KEYS
    assert counts(send(api)) == (1, 1, 0, 0, 0)


def test_a_refused_row_that_changes_is_sent_again(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    service.refuses = lambda row: row["row"] is not None and row["row"]["bikes"] == 2
    send(api)
    rides.run("update build.rentals set bikes = 3 where rental = 2")
    rides.publish()
    assert counts(send(api)) == (1, 1, 0, 0, 0)
    assert service.events[-1] == ("insert", KEYS[1])
    assert held(rides) == []


def test_another_row_of_a_key_is_another_entry(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 2
    send(api)
    (one,) = held(rides)
    rides.run("update build.rentals set bikes = 3 where rental = 2")
    rides.publish()
    assert send(api).refused == 1
    (other,) = held(rides)
    assert other.quarantine_id > one.quarantine_id
    assert send(api, {"everything": True}).refused == 1
    assert [entry.quarantine_id for entry in held(rides)] == [other.quarantine_id]


def test_one_place_for_what_comes_and_what_goes(
    rides: Rides, service: Service, send: Send, told: Any, api: HttpApi
) -> None:
    with connect(rides.settings) as connection:
        execute(connection, SOURCE_ROW, "first")
        connection.commit()
    service.refuses = lambda row: row["key"]["rental"] == 2
    send(api)
    with connect(rides.settings) as connection:
        execute(connection, SOURCE_ROW, "second")
        connection.commit()
    listed = json.loads(told("list", "--json")[1])
    assert [(one["quarantine_id"], one["source"]) for one in listed] == [(1, "till"), (2, "deliveries"), (3, "till")]
    assert all("payload" not in one for one in listed)
    assert "masked" not in told("list")[1]
    assert [one["table"] for one in json.loads(told("list", "deliveries", "--json")[1])] == ["rentals_out"]
    (shown,) = json.loads(told("show", "2")[1])
    assert shown["payload"]["row"]["rider"] == "masked"
    assert "did you mean rentals_out?" in told("list", "deliveries.rental_out")[1]
    assert "is a row of a mart, in which no value is set" in told("replay", "2", "--set", "bikes=1")[1]
    assert "no entry 9 in the quarantine" in told("show", "9")[1]


def test_what_is_dropped_is_not_replayed(rides: Rides, service: Service, api: HttpApi, send: Send, told: Any) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 2
    send(api)
    (one,) = held(rides)
    assert told("drop", str(one.quarantine_id)) == (0, "1 entries dropped.\n")
    assert told("drop", str(one.quarantine_id)) == (0, "0 entries dropped.\n")
    service.refuses = lambda _: False
    assert "is no longer open" in told("replay", str(one.quarantine_id))[1]
    assert told("replay", "--table", "deliveries")[0] == 0
    assert (send(api).rows, held(rides)) == (0, [])
    assert [entry.status for entry in held(rides, status=None)] == ["dropped"]
    assert [state.refused for state in records.states(rides.settings)] == [0]


def test_of_whoever_is_forgotten_nothing_is_replayed(
    rides: Rides, service: Service, api: HttpApi, send: Send, told: Any
) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 2
    send(api)
    chosen = held(rides)
    with connect(rides.settings) as connection:
        execute(connection, "insert into ops.erasures (subject, key_mark, finished_at) values ('x', 'x', now())")
        connection.commit()
    service.refuses = lambda _: False
    (done,) = refused.replay(rides.settings, chosen)
    assert (done.landed, done.refused) == ((), ((chosen[0].quarantine_id, refused.GONE),))
    assert held(rides, status=None) == []
    assert KEYS[1] not in service.rows


def test_who_may_not_see_them_is_told_so(
    rides: Rides, service: Service, send: Send, told: Any, api: HttpApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 2
    send(api)
    monkeypatch.setattr(refused, "connect", lambda settings: connect(settings, role="loader"))
    code, words = told("list")
    assert (code, "for the warehouse's owner to see" in words) == (0, True)


def test_another_target_has_refused_nothing(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 2
    send(api)
    (one,) = held(rides)
    other = delivery(type(api)(api.api, "/elsewhere"))
    with pytest.raises(GranaryError, match="which has refused nothing"):
        room.deliver(rides.settings, other, refused=[one.quarantine_id])
    assert len(held(rides)) == 1
