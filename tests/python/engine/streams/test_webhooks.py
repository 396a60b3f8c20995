"""Webhooks: who may post, what a 2xx promises, and that an event lands once however often it is sent."""

from __future__ import annotations

import gzip
import hmac
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from granary.streams import signatures
from granary.streams.signatures import sign
from granary.streams.webhooks import Answer, Reading, Room
from granary.warehouse.connection import connect, execute, query
from tests.python.support.stream_servers import command, differences, ended, event
from tests.python.support.webhook_sender import NEXT, SECRET, Sender, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings


@pytest.fixture(scope="module")
def sender(make_warehouse: Callable[[str], Settings]) -> Iterator[Sender]:
    """Return a sender to a server that the tests of this module share."""
    settings = make_warehouse("webhooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRANARY_HOME", str(settings.home))
        patch.setenv("PGDATABASE", settings.database)
        with serving(settings) as (sender, _):
            yield sender


def test_a_202_means_that_it_is_there(sender: Sender) -> None:
    assert sender.post(event(1, event_id="a1")) == (202, {"accepted": 1, "duplicate": False, "quarantined": []})
    assert sender.ids("a%") == ["a1"]
    assert sender.post([event(1, event_id="a1"), event(2, event_id="a2")], secret=NEXT)[0] == 202
    assert sender.ids("a%") == ["a1", "a2"]
    assert sender.query(
        "select unit, status from ops.load_audit where load_id = (select max(load_id) from ops.load_audit)"
    ) == [("webhook", "loaded")]


def test_who_may_not_post(sender: Sender) -> None:
    one = event(1, event_id="b1")
    body = json.dumps(one).encode()
    assert sender.post(one, secret="a-secret-that-nobody-knows")[0] == 401
    assert sender.post(one, **{"Granary-Signature": ""}) == (401, {"error": "the header Granary-Signature is missing"})
    assert sender.post(one, **{"Granary-Signature": sign(SECRET, int(time.time()) - 400, body)})[0] == 401
    assert sender.post(one, key="k", **{"Granary-Signature": sign(SECRET, int(time.time()), body)})[0] == 401
    assert sender.post(one, key="k", **{"Idempotency-Key": "another"})[0] == 401
    for path in ("/events/members", "/till/receipts", "/events", "/"):
        assert requests.post(sender.url + path, data=body, timeout=10).status_code == 404
    assert requests.get(f"{sender.url}/events/card_scans", timeout=10).status_code == 405
    assert requests.get(f"{sender.url}/health", timeout=10).json() == {"status": "ok"}
    assert sender.ids("b%") == []


def test_refused_events_are_told_and_kept(sender: Sender) -> None:
    status, answer = sender.post(
        [
            event(1, event_id="c1"),
            event(2, event_id="c2", type="card_lost"),
            "c3",
            event(4, event_id="c4", member_id=None),
        ]
    )
    assert (status, answer) == (
        202,
        {
            "accepted": 1,
            "duplicate": False,
            "quarantined": [
                {"index": 1, "column": "type", "reason": "is none of card_scanned"},
                {"index": 2, "column": "", "reason": "is not a JSON object"},
                {"index": 3, "column": "member_id", "reason": "is null"},
            ],
        },
    )
    assert sender.ids("c%") == ["c1"]
    assert sender.post(event(5, event_id="c5", door_id="x"))[0] == 422
    assert sender.post(b"{c6")[0] == 400
    assert sender.post(b"\xff")[0] == 400
    assert sender.post(b"[" * 100_000)[0] == 400
    assert sender.post([]) == (400, {"error": "the list has no events"})
    kept = sender.query("select reason, payload from ops.quarantine where unit = 'webhook' order by quarantine_id")
    assert [reason for reason, _ in kept] == [
        "is none of card_scanned",
        "is not a JSON object",
        "is null",
        "is not a valid int64",
        "is not JSON: Expecting property name enclosed in double quotes",
        "is not UTF-8 text",
        "is nested deeper than 64 levels",
    ]
    assert [payload for _, payload in kept[4:6]] == [{"line": "{c6"}, {"base64": "/w=="}]


def test_poison_is_answered_and_harms_no_other(sender: Sender) -> None:
    long = json.dumps(event(1, event_id="p1")).replace('"member_id": 2', f'"member_id": {"9" * 5000}')
    wide = event(2, event_id="p2", **{f"field_{n}": n for n in range(2000)})
    with ThreadPoolExecutor(8) as pool:
        bodies = [long.encode(), wide, *[event(n, event_id=f"p{n}") for n in range(3, 9)]]
        statuses = [status for status, _ in pool.map(sender.post, bodies)]
    assert statuses == [422, 422, *[202] * 6]
    assert sender.ids("p%") == [f"p{n}" for n in range(3, 9)]
    kept = sender.query("select reason from ops.quarantine where payload::text ~ '\"p[12]\"' order by 1")
    assert [reason for (reason,) in kept] == [
        "holds a number beyond those that a double can hold",
        "would bring the table over 200 columns that its contract does not name",
    ]


def test_too_large(sender: Sender) -> None:
    assert sender.post(b" " * 1_048_577)[0] == 413
    parts = (b" " * 65_536 for _ in range(100))
    answer = requests.post(f"{sender.url}/events/card_scans", data=parts, timeout=10)
    assert answer.status_code == 413
    assert sender.post([event(n) for n in range(5_001)])[0] == 413


def test_idempotency_key(sender: Sender) -> None:
    first, other = event(1, event_id="d1"), event(2, event_id="d2")
    assert sender.post(first, key="order-1") == (202, {"accepted": 1, "duplicate": False, "quarantined": []})
    assert sender.post(first, key="order-1") == (202, {"accepted": 1, "duplicate": True, "quarantined": []})
    assert sender.post(other, key="order-1") == (422, {"error": "this Idempotency-Key was used with another body"})
    assert sender.post(other, key="order-2")[0] == 202
    assert sender.post(first, key="../../etc")[0] == 400
    assert sender.ids("d%") == ["d1", "d2"]
    assert sender.query("select count(*) from ops.load_audit where unit = 'webhook:order-1'") == [(1,)]


def test_many_at_once_share_transactions(sender: Sender) -> None:
    """400 requests from 16 senders, each event sent twice."""
    before = sender.query("select count(*) from ops.load_audit")[0][0]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: sender.post(event(n, event_id=f"f{n % 200:03}")), range(400)))
    assert {status for status, _ in answers} == {202}
    assert sender.ids("f%") == [f"f{n:03}" for n in range(200)]
    assert sender.query("select count(*) from ops.load_audit")[0][0] - before < 200


def test_503_while_the_warehouse_is_away(sender: Sender) -> None:
    name = sender.settings.database
    with connect(sender.settings, "postgres", autocommit=True) as connection:
        execute(connection, f'alter database "{name}" with allow_connections false')
        query(connection, "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
        try:
            assert sender.post(event(1, event_id="g1")) == (
                503,
                {"error": "the warehouse cannot take it now: send it again"},
            )
        finally:
            execute(connection, f'alter database "{name}" with allow_connections true')
    assert sender.post(event(1, event_id="g1"))[0] == 202
    assert sender.ids("g%") == ["g1"]


def test_what_was_acknowledged_survives_a_kill(warehouse: Settings) -> None:
    """The server is killed after its sixth batch is written and before it is committed."""
    acknowledged: list[str] = []
    with serving(warehouse, GRANARY_KILL_AT="stream-before-commit:6") as (sender, process):
        for number in range(50):
            try:
                status, _ = sender.post(event(number))
            except requests.ConnectionError:
                break
            assert status == 202
            acknowledged.append(f"e{number}")
        assert process.wait(10) == -signal.SIGKILL
    assert acknowledged == [f"e{n}" for n in range(5)]
    assert differences(warehouse, acknowledged) == (0, 0)
    assert sender.ids("%") == acknowledged


def test_ends_cleanly_and_needs_a_secret(warehouse: Settings) -> None:
    with serving(warehouse) as (sender, process):
        assert sender.post(event(1))[0] == 202
        process.send_signal(signal.SIGTERM)
        code, out, err = ended(process)
    assert (code, out, err) == (0, "The webhooks are closed.\n", "")
    code, _, err = ended(command("serve-webhooks", GRANARY_EVENTS_WEBHOOK_SECRETS="short"))
    assert code == 1
    assert "GRANARY_EVENTS_WEBHOOK_SECRETS has a secret of less than 16 bytes" in err
    code, _, err = ended(command("serve-webhooks"))
    assert "no source has its webhook secrets set" in err


def raw(sender: Sender, *parts: bytes) -> socket.socket:
    """Open a connection and send these bytes, as no client of HTTP would."""
    where = urlsplit(sender.url)
    connection = socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=60)
    for part in parts:
        connection.sendall(part)
    return connection


def answer_of(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    said = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            said += part
    connection.close()
    return said


HEAD = b"POST /events/card_scans HTTP/1.1\r\nHost: x\r\n"


def test_slow_senders_are_cut_off_and_harm_no_other(sender: Sender) -> None:
    """50 never end their head, 50 never end their body, and one begins again after an answer; others are served."""
    heads = [raw(sender, HEAD, b"X-A: b\r\n") for _ in range(50)]
    bodies = [raw(sender, HEAD, b"Content-Length: 9999\r\n\r\n{") for _ in range(50)]
    late = raw(sender, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    said = b""
    while b'"ok"}' not in said:
        said += late.recv(65_536)
    late.sendall(b"GET /he")
    assert sender.post(event(1, event_id="h1"))[0] == 202
    assert {answer_of(connection) for connection in [*heads, late]} == {b""}
    ends = {answer_of(connection).partition(b"\r\n")[0] for connection in bodies}
    assert ends == {b"HTTP/1.1 408 Request Timeout"}
    assert sender.ids("h%") == ["h1"]


def test_bombs_are_refused(sender: Sender) -> None:
    """Heads without an end, packed bodies, lengths that no number holds, deep and wide and long JSON."""
    for bomb in (
        HEAD + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(10_000)),
        HEAD + b"X: " + b"a" * 10_000_000,
        b"POST /" + b"a" * 10_000_000,
    ):
        connection = raw(sender)
        with suppress(ConnectionError):
            connection.sendall(bomb)
        with suppress(ConnectionError):
            assert answer_of(connection).partition(b"\r\n")[0] in (b"HTTP/1.1 400 Bad Request", b"")
    assert b" 413 " in answer_of(raw(sender, HEAD, b"Content-Length: " + b"9" * 15 + b"\r\n\r\n"))
    assert b" 400 " in answer_of(raw(sender, HEAD, b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"))
    packed = gzip.compress(b" " * 50_000_000)
    assert sender.post(packed, **{"Content-Encoding": "gzip"})[0] == 400, "nobody unpacks it"
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    for body in (nested, b"[" + b"1e999999999," * 50_000 + b"1]", b'{"a":"' + b"\\u0000" * 100_000 + b'"}'):
        assert sender.post(body)[0] in (400, 413, 422)
    assert sender.post(event(1, event_id="i1"))[0] == 202


def test_fifty_connections_at_once(sender: Sender) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: sender.post(event(n, event_id=f"j{n:03}"))[0], range(200)))
    assert answers == [202] * 200
    assert sender.ids("j%") == [f"j{n:03}" for n in range(200)]


def test_a_recorded_request_is_worth_nothing_after_five_minutes_and_lands_once_before(sender: Sender) -> None:
    one = event(1, event_id="k1")
    body = json.dumps(one).encode()
    now = int(time.time())
    for at, status in ((now - 290, 202), (now - 290, 202), (now + 290, 202), (now - 310, 401), (now + 310, 401)):
        assert sender.post(body, **{"Granary-Signature": sign(SECRET, at, body)})[0] == status, at - now
    assert sender.ids("k%") == ["k1"]
    for header in ("t=1", f"t={now}", f"t={now},t={now},v1=00", f"t=-{now},v1=00", f"t={now},v1=" + "é" * 64):
        assert sender.post(body, **{"Granary-Signature": header.encode().decode("latin-1")})[0] == 401


def test_every_secret_is_tried_with_every_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a check takes says nothing of which one was right, or how much of it."""
    compared: list[tuple[bytes, bytes]] = []
    original = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return original(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    right = sign(SECRET, 1_000, b"{}").partition("v1=")[2]
    signatures.verify((SECRET, NEXT), f"t=1000,v1={right},v1=00,v1=01", b"{}", 1_000)
    assert len(compared) == 2 * 3


def test_bodies_share_a_room() -> None:
    room = Room(10)
    first, second = Reading(room, 8), Reading(room, 8)
    first.take(6)
    with pytest.raises(Answer) as busy:
        second.take(5)
    with pytest.raises(Answer) as large:
        first.take(3)
    assert (busy.value.status, large.value.status) == (503, 413)
    room.give_back(first.taken)
    second.take(8)
    assert room.left == 2
