"""What webhooks do when the warehouse is busy, and where the size of a body ends."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from granary.load.json_objects import from_rows
from granary.streams import receiving, webhooks
from granary.streams.receiving import BusyError, Delivery, Receiver
from granary.streams.signatures import sign
from granary.warehouse.connection import connect, lock, query
from tests.python.support.project.ingestion.events import CARD_SCANS, SOURCE
from tests.python.support.stream_servers import command, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from granary.warehouse.settings import Settings

SECRET = "a-secret-of-many-bytes"

TABLE = CARD_SCANS
LANDED = "select event_id from raw_events.card_scans order by 1"
WAITERS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def delivery(name: str) -> Delivery:
    return Delivery(TABLE, from_rows(TABLE, [event(1, event_id=name)]), None, "")


class Request:
    """What Starlette hands over, as far as an endpoint looks at it."""

    def __init__(self, body: bytes, **headers: str) -> None:
        self.path_params = {"source": "events", "table": TABLE.name}
        self.headers = {"Granary-Signature": sign(SECRET, int(time.time()), body)} | headers
        self._body = body

    async def stream(self) -> AsyncIterator[bytes]:
        yield self._body


def answer(endpoint: webhooks.Endpoint, body: bytes) -> tuple[int, Any]:
    request: Any = Request(body)
    with pytest.raises(webhooks.Answer) as ended:
        asyncio.run(
            webhooks._receive(request, {("events", TABLE.name): endpoint}, webhooks.Reading(webhooks.Room(1000), 1000))
        )
    return ended.value.status, ended.value.body


@contextmanager
def a_load_at_work(settings: Settings, receiver: Receiver) -> Iterator[list[Delivery]]:
    """Hold the source's lock, as a load does, and wait until a delivery waits for it."""
    with connect(settings) as connection:
        lock(connection, "load.events", 20)
        first = delivery("first")
        receiver.put(first)
        with connect(settings, autocommit=True) as other:
            until = time.monotonic() + 20
            while query(other, WAITERS) != [(1,)]:
                assert time.monotonic() < until
        yield [first]


@pytest.fixture
def receiver(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(receiving, "CAPACITY", 2)
    made = Receiver(warehouse, SOURCE)
    yield made
    made.close()


def test_as_many_wait_as_there_is_room_for_and_all_of_them_land(
    warehouse: Settings, receiver: Receiver, rows: Callable[..., list[tuple[object, ...]]]
) -> None:
    endpoint = webhooks.Endpoint(SOURCE, TABLE, (SECRET,), receiver)
    with a_load_at_work(warehouse, receiver) as taken:
        for name in ("second", "third"):
            taken.append(delivery(name))
            receiver.put(taken[-1])
        with pytest.raises(BusyError):
            receiver.put(delivery("one too many"))
        busy = (503, {"error": "the warehouse cannot take it now: send it again"})
        assert answer(endpoint, json.dumps(event(9, event_id="fourth")).encode()) == busy
    assert [one.outcome.result(20) for one in taken] == ["landed"] * 3
    assert rows(LANDED) == [("first",), ("second",), ("third",)]
    assert answer(endpoint, json.dumps(event(9, event_id="fourth")).encode())[0] == 202
    assert rows(LANDED) == [("first",), ("fourth",), ("second",), ("third",)]


def test_who_waited_too_long_is_told_to_send_again_which_is_harmless(
    warehouse: Settings,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    rows: Callable[..., list[tuple[object, ...]]],
) -> None:
    monkeypatch.setattr(webhooks, "LAND_SECONDS", 0.1)
    endpoint = webhooks.Endpoint(SOURCE, TABLE, (SECRET,), receiver)
    body = json.dumps(event(1, event_id="again")).encode()
    with a_load_at_work(warehouse, receiver) as taken:
        assert answer(endpoint, body)[0] == 503
    assert taken[0].outcome.result(20) == "landed"
    monkeypatch.setattr(webhooks, "LAND_SECONDS", 30)
    assert answer(endpoint, body)[0] == 202
    assert rows(LANDED) == [("again",), ("first",)]


def test_a_table_without_a_key_wants_the_header(warehouse: Settings, receiver: Receiver) -> None:
    endpoint = webhooks.Endpoint(SOURCE, replace(TABLE, key=()), (SECRET,), receiver)
    assert answer(endpoint, json.dumps(event(1)).encode()) == (
        400,
        {"error": "events of this table have no id of their own: send an Idempotency-Key"},
    )


@contextmanager
def serving(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the address of a server that was started, and end it."""
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[2].removesuffix("/<source>/<table>")
    finally:
        process.kill()
        process.wait()


def post(url: str, body: bytes) -> int:
    signed = {"Granary-Signature": sign(SECRET, int(time.time()), body), "Connection": "close"}
    return requests.post(f"{url}/events/{TABLE.name}", body, headers=signed, timeout=60).status_code


def test_the_largest_body_is_as_large_as_was_said(warehouse: Settings) -> None:
    del warehouse
    started = command("serve-webhooks", "--port", "0", "--max-bytes", "300", GRANARY_EVENTS_WEBHOOK_SECRETS=SECRET)
    with serving(started) as url:
        one = json.dumps(event(1)).encode()
        assert post(url, one.ljust(300)) == 202
        assert post(url, one.ljust(301)) == 413


def test_with_as_many_connections_as_there_may_be_everybody_is_turned_away(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two, in place of 1,000."""
    del warehouse
    monkeypatch.setenv("GRANARY_EVENTS_WEBHOOK_SECRETS", SECRET)
    code = "from granary.cli.main import main; from granary.streams import webhooks; webhooks.CONCURRENT = 2; main()"
    line = [sys.executable, "-c", code, "serve-webhooks", "--port", "0"]
    one = json.dumps(event(1)).encode()
    with serving(subprocess.Popen(line, stdout=subprocess.PIPE, text=True)) as url:
        assert post(url, one) == 202
        address = urlsplit(url)
        with socket.create_connection((str(address.hostname), int(address.port or 0))) as other:
            other.sendall(b"GET /health HTTP/1.1\r\n")  # a request that is not at its end
            assert post(url, one) == 503
        until = time.monotonic() + 20
        while (status := post(url, one)) == 503:  # until the server has seen that the other one is gone
            assert time.monotonic() < until
        assert status == 202
