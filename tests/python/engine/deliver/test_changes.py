"""What is sent: what changed between two publishes, each row once, as the role sees it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from granary.deliver import deliver as room
from granary.deliver import records, refused, take
from granary.deliver.spec import Delivery, HttpApi, Webhook
from granary.readers.api.spec import Api, ApiKey
from granary.streams.signatures import NotSignedError, verify
from granary.warehouse import publishes
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.engine.deliver.conftest import delivery

if TYPE_CHECKING:
    from tests.python.engine.deliver.conftest import Send
    from tests.python.support.delivery_service import Service
    from tests.python.support.rides import Rides

KEYS = [
    '{"business_date": "2021-01-05", "rental": 1}',
    '{"business_date": "2021-01-31", "rental": 2}',
    '{"business_date": "2021-02-01", "rental": 3}',
]


def counts(done: room.Delivered) -> tuple[int, int, int, int, int]:
    return done.rows, done.inserted, done.updated, done.deleted, done.refused


def test_first_all_rows_then_what_publishes_changed(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    assert counts(send(api)) == (3, 3, 0, 0, 0)
    assert sorted(service.rows) == KEYS
    assert service.rows[KEYS[0]] == {
        "rental": 1, "rider": "masked", "business_date": "2021-01-05", "bikes": 1, "price": Decimal("4.50"),
    }  # fmt: skip
    assert b'"price": 4.50' in service.requests[0][1]  # no digit is lost on the way
    assert counts(send(api)) == (0, 0, 0, 0, 0)

    rides.run(
        "update build.rentals set price = 10 where rental = 2",
        "delete from build.rentals where rental = 1",
        "insert into build.rentals select 4, 'Cy', '2021-02-02', 3, 1",
    )
    number = rides.publish()
    done = send(api)
    assert (done.publish_id, *counts(done)) == (number, 3, 1, 1, 1, 0)
    assert service.events[3:] == [
        ("delete", KEYS[0]), ("update", KEYS[1]), ("insert", '{"business_date": "2021-02-02", "rental": 4}'),
    ]  # fmt: skip
    assert len(service.requests) == 2
    assert [headers["idempotency-key"] for headers, _ in service.requests] == [
        json.loads(body)["id"] for _, body in service.requests
    ]


def test_only_changed_rows_are_read_where_publishes_are_kept(
    rides: Rides, api: HttpApi, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str | None] = []
    before = take._read

    def spied(*arguments: Any) -> None:
        read.append(arguments[-1])
        before(*arguments)

    monkeypatch.setattr(take, "_read", spied)
    send(api)
    rides.run("update build.rentals set price = 11 where rental = 3")
    rides.publish()
    assert counts(send(api)) == (1, 0, 1, 0, 0)
    assert read[0] is None
    assert json.loads(read[1] or "") == [{"rental": 3, "business_date": "2021-02-01"}]


def test_an_undo_is_delivered_as_what_it_changes(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    rides.run("update build.rentals set price = 10 where rental = 2", "delete from build.rentals where rental = 3")
    send(api)
    rides.publish()
    assert counts(send(api)) == (2, 0, 1, 1, 0)
    publishes.undo(rides.settings, 1)
    assert counts(send(api)) == (2, 1, 1, 0, 0)
    assert service.rows[KEYS[1]]["price"] == Decimal("9.00")
    assert sorted(service.rows) == KEYS


def test_publishes_that_are_not_kept_any_more_cost_a_full_comparison(rides: Rides, api: HttpApi, send: Send) -> None:
    send(api)
    for price in (5, 6, 7):
        rides.run(f"update build.rentals set price = {price} where rental = 1")
        rides.publish()
    rides.rows("select ops.prune_history('marts', 0)")
    assert counts(send(api)) == (1, 0, 1, 0, 0)


def test_a_query_over_marts(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    query_of = {"mart": "", "query": "select business_date, sum(bikes) as bikes from marts.rentals group by 1;",
                "reads": ("rentals",), "key": ("business_date",)}  # fmt: skip
    assert counts(send(api, **query_of)) == (3, 3, 0, 0, 0)
    rides.run("update build.rentals set bikes = 9 where rental = 1", "delete from build.rentals where rental = 2")
    rides.publish()
    assert counts(send(api, **query_of)) == (2, 0, 1, 1, 0)
    assert service.rows == {
        '{"business_date": "2021-01-05"}': {"business_date": "2021-01-05", "bikes": 9},
        '{"business_date": "2021-02-01"}': {"business_date": "2021-02-01", "bikes": 1},
    }


def test_masks_hold_unless_the_role_may_see(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    send(api)
    assert {row["rider"] for row in service.rows.values()} == {"masked"}
    send(api, role="analyst_pii", name="in_clear")
    assert {row["rider"] for row in service.rows.values()} == {"Ada", "Bo"}


def test_a_dry_run_tells_and_sends_nothing(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    done = send(api, {"dry_run": True})
    assert (done.inserted, done.rows, done.dry_run) == (3, 0, True)
    assert service.requests == []
    assert records.states(rides.settings) == []
    assert send(api).inserted == 3


def test_all_rows_again(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    send(api)
    assert counts(send(api, {"everything": True})) == (3, 0, 3, 0, 0)
    assert len(service.keys) == 2


def test_a_busy_service_is_asked_again_with_the_same_key(service: Service, api: HttpApi, send: Send) -> None:
    service.answers = [(429, {"Retry-After": "0"}), (503, {})]
    assert send(api).rows == 3
    (key,) = {headers["idempotency-key"] for headers, _ in service.requests}
    assert len(service.requests) == 3
    assert len({body for _, body in service.requests}) == 1
    assert list(service.keys) == [key]


def test_what_could_not_be_sent_waits_in_the_same_batch(
    rides: Rides, service: Service, api: HttpApi, send: Send
) -> None:
    service.answers = [(500, {})] * 3
    with pytest.raises(GranaryError, match="answered 500"):
        send(api)
    (state,) = records.states(rides.settings)
    assert (state.waiting, state.error is not None, state.delivered_at) == (3, True, None)
    rides.run("delete from build.rentals where rental = 1")
    rides.publish()
    done = send(api)
    assert (done.left_over, done.deleted) == (3, 1)
    assert [op for op, _ in service.events] == ["insert"] * 3 + ["delete"]
    (state,) = records.states(rides.settings)
    assert (state.waiting, state.error, state.failed_at, state.is_behind) == (0, None, None, False)


def test_wrong_credentials_are_no_refusal_of_rows(rides: Rides, service: Service, send: Send) -> None:
    service.answers = [(401, {})]
    target = HttpApi(Api(service.url, auth=ApiKey("X-Key", "not-to-be-shown")))
    with pytest.raises(GranaryError, match=r"refuses our key \(401\)") as caught:
        send(target)
    assert "not-to-be-shown" not in str(caught.value)
    assert refused.entries(rides.settings) == []
    assert send(target).left_over == 3


def test_rows_one_by_one(service: Service, send: Send) -> None:
    assert send(HttpApi(Api(service.url), per_row=True)).rows == 3
    assert len(service.requests) == len(service.keys) == 3


def test_a_webhook_is_signed(service: Service, send: Send) -> None:
    secret = "a secret of the receiver"
    assert send(Webhook(service.url, secret)).rows == 3
    assert len(service.requests) == 3
    for headers, body in service.requests:
        at = int(headers["granary-signature"].split(",")[0][2:])
        verify([secret], headers["granary-signature"], body, at, headers["idempotency-key"])
        with pytest.raises(NotSignedError):
            verify(["another secret, not it"], headers["granary-signature"], body, at, headers["idempotency-key"])


def test_changed_columns_stop_it_until_somebody_agrees(
    rides: Rides, service: Service, api: HttpApi, send: Send
) -> None:
    query_of = {
        "mart": "",
        "query": "select rental, bikes from marts.rentals",
        "reads": ("rentals",),
        "key": ("rental",),
    }
    send(api, **query_of)
    query_of["query"] = "select rental, bikes::text as bikes, price from marts.rentals"
    with pytest.raises(GranaryError, match=r"columns added: price; columns retyped: bikes \(int4, now text\)"):
        send(api, **query_of)
    assert len(service.requests) == 1
    assert counts(send(api, {"everything": True}, **query_of)) == (3, 0, 3, 0, 0)
    assert send(api, **query_of).rows == 0


def test_another_target_gets_all_rows_once_somebody_agrees(service: Service, api: HttpApi, send: Send) -> None:
    send(api)
    other = HttpApi(Api(service.url), "/elsewhere")
    with pytest.raises(GranaryError, match=r"goes to API http.*/elsewhere and not to"):
        send(other)
    assert counts(send(other, {"everything": True})) == (3, 3, 0, 0, 0)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"mart": "rental"}, "no mart 'rental'.*did you mean rentals"),
    ({"mart": "docks"}, "no key, so what changed cannot be told"),
    ({"mart": "stations", "key": ("station",)}, "key is null in some row: station"),
    ({"key": ("bikes",)}, "several rows have the same key: bikes"),
    ({"key": ("bike",)}, "no column bike .*it has rental"),
    ({"mart": "", "query": "select", "reads": ("rental",)}, "no mart 'rental'"),
    ({"mart": "", "query": "select no from marts.rentals", "reads": ("rentals",), "key": ("x",)}, "refuses it"),
    ({"mart": "", "query": "select * from build.rentals", "reads": ("rentals",), "key": ("rental",)}, "denied"),
    ({"settings": ("OF_NOBODY",)}, "OF_NOBODY is not set"),
]


def test_what_is_wrong_is_said_and_nothing_is_sent(rides: Rides, service: Service, api: HttpApi) -> None:
    for more, words in WRONG:
        said: dict[str, Any] = {"name": "out", "description": "x", "owner": "x", "mart": "rentals", "settings": ()}
        with pytest.raises(GranaryError, match=words):
            room.deliver(rides.settings, Delivery(target=lambda _: api, **(said | more)))
    assert service.requests == []
    assert records.states(rides.settings) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"mart": ""}, "either mart or query"),
        ({"query": "select 1"}, "either mart or query"),
        ({"mart": "", "query": "select 1"}, "reads names no mart"),
        ({"reads": ("x",)}, "reads is for a query"),
        ({"name": "No Name"}, "other characters"),
        ({"batch_rows": 0}, "batch_rows"),
        ({"role": "owner"}, "role"),
    ],
)
def test_a_wrong_declaration_is_refused(api: HttpApi, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        delivery(api, **more)


def test_two_at_once_take_turns(rides: Rides, api: HttpApi, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "WAIT_SECONDS", 0.1)
    with room._alone(rides.settings, delivery(api)), pytest.raises(GranaryError, match="another process delivers it"):
        send(api)


def test_somebody_forgotten_is_deleted_at_the_target(rides: Rides, service: Service, api: HttpApi, send: Send) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 1
    rides.publish()
    send(api)  # what was refused is kept, with its values
    with connect(rides.settings) as connection:
        execute(connection, "insert into ops.erasures (subject, key_mark, finished_at) values ('x', 'x', now())")
        execute(connection, "delete from personal.rentals where rental in (1, 2)")
        connection.commit()
        stale = records.forgotten(rides.settings)
        assert [name for name, _ in stale] == ["rentals_out"]
        assert query(connection, "select count(payload) from ops.delivered_rows") == [(0,)]
    service.refuses = lambda _: False
    done = send(api)
    assert done.deleted == 2
    assert sorted(service.rows) == [KEYS[2]]
    with connect(rides.settings) as connection:
        assert query(connection, "select key from ops.delivered_rows") == [
            (json.dumps({"rental": 3, "business_date": "2021-02-01"}),)
        ]
