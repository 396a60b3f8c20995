"""CloudEvents as webhooks: in each mode of HTTP, by the rules of the specification, once by source and id."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import requests
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from granary.sources.capture import CapturedReader
from granary.sources.spec import Column, Source, Stream, Table
from granary.streams import cloudevents
from granary.streams.receiving import Receiver
from granary.streams.signatures import HEADER, sign
from granary.streams.webhooks import Endpoint, application
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.json_text import Flaw
from tests.python.support import worked_examples
from tests.python.support.stream_servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings

SECRET = "a-secret-of-more-than-enough-bytes"
STRUCTURED = "application/cloudevents+json; charset=UTF-8"
BATCH = "application/cloudevents-batch+json"
DAY = timedelta(days=1)

READINGS = Table(
    name="readings",
    description="What meters say.",
    location="readings",
    disposition="append",
    freshness=DAY,
    key=("ce_source", "ce_id"),
    columns=(
        Column("ce_source", pa.string(), "The meter.", nullable=False),
        Column("ce_id", pa.string(), "Its id of the event.", nullable=False),
        Column("at", pa.timestamp("us", tz="UTC"), "When.", aliases=("ce_time",), missing="null"),
        Column("amount", pa.int64(), "What it says.", minimum=0, missing="null"),
    ),
)
NOTES = replace(READINGS, name="notes", key=(), columns=(Column("ce_type", pa.string(), "Kind."),))
STRICT = replace(READINGS, name="strict", new_columns="refuse")
SOURCE = Source(
    "meters",
    "Meters.",
    "tests",
    "events",
    (),
    lambda _: CapturedReader(),
    (READINGS, NOTES, STRICT),
    Stream({t.name: t.name for t in (READINGS, NOTES, STRICT)}, "GRANARY_X", "GRANARY_Y"),
)


@dataclass
class Meters:
    """A sender of CloudEvents, and what has landed."""

    url: str
    settings: Settings

    def post(
        self, body: Any, kind: str | None = STRUCTURED, table: str = "readings", **headers: str
    ) -> tuple[int, Any]:
        """Send a request with the token, and return the status and what is said."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        every = {"Authorization": f"Bearer {SECRET}"} | ({"Content-Type": kind} if kind else {})
        every |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = requests.post(f"{self.url}/meters/{table}", data=content, headers=every, timeout=30)
        return answer.status_code, answer.json()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with connect(self.settings) as connection:
            return query(connection, sql)


@pytest.fixture(scope="module")
def meters(make_warehouse: Callable[[str], Settings]) -> Iterator[Meters]:
    """Return a sender to a server that the tests of this module share."""
    settings = make_warehouse("cloudevents")
    with serving(settings, SOURCE) as url:
        yield Meters(url, settings)


@contextmanager
def serving(settings: Settings, source: Source) -> Iterator[str]:
    """Run a server for a source, and yield its address."""
    receiver = Receiver(settings, source)
    known = {(source.name, table.name): Endpoint(source, table, (SECRET,), receiver) for table in source.tables}
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application(known, 10_000), port=port, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, what="the server's start")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
        receiver.close()


def test_the_guide_s_example(warehouse: Settings) -> None:
    """The request lands as the guide says, and once, though it is sent twice."""
    readings = worked_examples.table("streams", "READINGS")
    source = replace(SOURCE, tables=(readings,), stream=Stream({"readings": "readings"}, "GRANARY_X", "GRANARY_Y"))
    path, headers, body = worked_examples.request("streams", "CloudEvents", SECRET=SECRET)
    with serving(warehouse, source) as url:
        answers = [requests.post(f"{url}{path}", body, headers=headers, timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    shown = worked_examples.row("streams", "CloudEvents")
    with connect(warehouse) as connection:
        named = ", ".join(f"{name}::text" for name in shown)
        execute(connection, "set time zone 'UTC'")
        assert query(connection, f"select {named} from raw_meters.readings") == [tuple(shown.values())]


def event(number: object, **changes: Any) -> dict[str, Any]:
    """Return a reading as a CloudEvent; what is None is left out."""
    found = {"specversion": "1.0", "id": str(number), "source": "/meters/1", "type": "read", "data": {"amount": 5}}
    return {name: value for name, value in (found | changes).items() if value is not None}


def test_structured(meters: Meters) -> None:
    """Attributes are columns beside the fields of the data; the same source and id land once."""
    at = "2024-02-29T23:00:00.25+01:00"
    one = event("s1", time=at, subject="kitchen", tenant="t", sampled=True, datacontenttype="application/json")
    assert meters.post(one) == (202, {"accepted": 1, "duplicate": False, "quarantined": []})
    assert meters.post(one)[0] == 202
    assert meters.post(event("s1", source="/meters/2", data={"amount": 6}))[0] == 202
    assert meters.rows(
        "select ce_source, at, amount, ce_type, ce_subject, ce_tenant, ce_sampled from raw_meters.readings"
        " where ce_id = 's1' order by 1"
    ) == [
        (
            "/meters/1",
            datetime(2024, 2, 29, 22, 0, 0, 250_000, tzinfo=timezone.utc),
            5,
            "read",
            "kitchen",
            "t",
            True,
        ),
        ("/meters/2", None, 6, "read", None, None, None),
    ]
    columns = meters.rows("select column_name from information_schema.columns where table_name = 'readings'")
    assert not {("ce_specversion",), ("ce_datacontenttype",)} & set(columns)


def test_data_of_every_kind(meters: Meters) -> None:
    """What is no object is a column of its own: a text, a list, bytes in base64, nothing."""
    for number, data in enumerate((["x", 1], "text", 5, None)):
        assert meters.post(event(f"d{number}", data=data))[0] == 202
    assert meters.post(event("d4", data=None, data_base64="AP8="))[0] == 202
    assert meters.rows("select ce_id, ce_data from raw_meters.readings where ce_id like 'd%' order by 1") == [
        ("d0", '["x",1]'), ("d1", "text"), ("d2", "5"), ("d3", None), ("d4", "AP8="),
    ]  # fmt: skip


def test_batched(meters: Meters) -> None:
    """What breaks the specification is refused alone; an empty batch is one."""
    status, answer = meters.post(
        [event("b1"), event("b2", id=None), event("b3", data={"amount": -1}), event("b4")], BATCH
    )
    assert (status, answer["accepted"], [bad["reason"] for bad in answer["quarantined"]]) == (
        202,
        2,
        ["is no CloudEvent: its id is not a text, or missing", "is below 0"],
    )
    assert meters.rows("select ce_id from raw_meters.readings where ce_id like 'b%' order by 1") == [("b1",), ("b4",)]
    assert meters.post([], BATCH) == (202, {"accepted": 0, "duplicate": False, "quarantined": []})
    assert meters.post({}, BATCH)[0] == 400
    assert meters.post([event(1)], BATCH, table="notes")[0] == 400


def test_binary(meters: Meters) -> None:
    """Attributes are headers, with characters beyond ASCII in percent; the body is the data."""
    attributes = {"ce_specversion": "1.0", "ce_id": "n1", "ce_source": "/meters/1", "ce_type": "read"}
    assert meters.post({"amount": 7}, "application/json", **attributes, ce_subject="K%C3%BCche")[0] == 202
    assert meters.post(b"\xff\x00", "image/png", **attributes | {"ce_id": "n2"})[0] == 202
    assert meters.post(b"plain", "text/plain", **attributes | {"ce_id": "n3"})[0] == 202
    assert meters.post(b"", None, **attributes | {"ce_id": "n4"})[0] == 202
    assert meters.post(b"{", "application/json", **attributes | {"ce_id": "n5"})[0] == 422
    assert meters.rows(
        "select payload -> 'row' ->> 'id', reason from ops.quarantine where reason like '%data that%'"
    ) == [("n5", "has data that is not JSON: Expecting property name enclosed in double quotes")]
    assert meters.post({}, "application/json", **attributes | {"ce_id": "%FF"})[0] == 422
    assert meters.post({}, "application/json", **attributes | {"ce_specversion": "0.3"})[0] == 422
    assert meters.rows(
        "select ce_id, amount, ce_subject, ce_data from raw_meters.readings where ce_id like 'n%' order by 1"
    ) == [("n1", 7, "Küche", None), ("n2", None, None, "/wA="), ("n3", None, None, "plain"), ("n4", None, None, None)]


def test_a_table_without_a_key(meters: Meters) -> None:
    """Source and id are the key of the delivery; the same with another body is a conflict."""
    assert meters.post(event("k1"), table="notes") == (202, {"accepted": 1, "duplicate": False, "quarantined": []})
    assert meters.post(event("k1"), table="notes") == (202, {"accepted": 1, "duplicate": True, "quarantined": []})
    assert meters.post(event("k1", type="other"), table="notes")[0] == 422
    assert meters.post(event("k1", source="/other"), table="notes")[1]["duplicate"] is False
    assert meters.rows("select ce_type, ce_source from raw_meters.notes order by 2") == [
        ("read", "/meters/1"), ("read", "/other"),
    ]  # fmt: skip


def test_a_contract_that_refuses_new_columns(meters: Meters) -> None:
    """It gets the attributes that it names, and no others."""
    assert meters.post(event("x1", subject="s", tenant="t"), table="strict")[0] == 202
    assert meters.post(event("x2", data={"other": 1}), table="strict")[0] == 422
    assert meters.rows("select ce_source, ce_id, amount from raw_meters.strict") == [("/meters/1", "x1", 5)]


def test_who_may_send(meters: Meters) -> None:
    """A token that is a secret, or a signature over the body; in binary mode the token, for nobody signs headers."""
    body = json.dumps(event("w1")).encode()
    signed = {HEADER: sign(SECRET, int(time.time()), body)}

    def status(headers: dict[str, str], content: bytes = body) -> int:
        return requests.post(f"{meters.url}/meters/readings", data=content, headers=headers, timeout=30).status_code

    assert status({"Content-Type": STRUCTURED}) == 401
    assert status({"Content-Type": STRUCTURED, "Authorization": "Bearer nonsense"}) == 401
    assert status({"Content-Type": STRUCTURED, "Authorization": f"Basic {SECRET}"}) == 401
    assert status({"Content-Type": STRUCTURED, **signed}) == 202
    attributes = {"ce-specversion": "1.0", "ce-id": "w2", "ce-source": "/m", "ce-type": "t"}
    assert status({**attributes, **signed}) == 401
    assert status({"Authorization": f"Bearer {SECRET}"}) == 401  # no CloudEvent
    assert meters.post(event("w3"), "application/cloudevents+avro")[0] == 415
    assert meters.post(event("w3"), "application/cloudevents+json; charset=latin1")[0] == 415
    assert meters.post(event("w3", data={"x": "y" * 10_000}))[0] == 413


def test_the_handshake(meters: Meters) -> None:
    """Before a sender begins it asks whether it may."""

    def ask(path: str = "/meters/readings", **headers: str) -> requests.Response:
        return requests.options(
            meters.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=30
        )

    answer = ask(WebHook_Request_Origin="sender.example.com", WebHook_Request_Rate="120")
    assert answer.status_code == 200
    assert answer.headers["WebHook-Allowed-Origin"] == "sender.example.com"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    assert answer.headers["Allow"] == "OPTIONS, POST"
    assert "WebHook-Allowed-Origin" not in ask().headers
    assert ask(WebHook_Request_Origin="not a host").status_code == 400
    assert ask(WebHook_Request_Origin="a.b", WebHook_Request_Rate="-1").status_code == 400
    assert ask("/meters/nothing", WebHook_Request_Origin="a.b").status_code == 404


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"specversion": "0.3"}, "another specversion"),
        ({"type": ""}, "its type"),
        ({"source": "not a reference"}, "its source"),
        ({"time": "yesterday"}, "its time"),
        ({"subject": ""}, "its subject"),
        ({"dataschema": "relative"}, "its dataschema"),
        ({"datacontenttype": "json"}, "its datacontenttype"),
        ({"Upper": "x"}, "other characters"),
        ({"tenant": {"a": 1}}, "an attribute is of a type"),
        ({"tenant": 2**31}, "an attribute is of a type"),
        ({"data_base64": "AA=="}, "data and data_base64"),
        ({"data": None, "data_base64": "?"}, "not base64"),
        ({"data": {"ce_id": 5}}, "field ce_id, which is an attribute's"),
    ],
)
def test_rules_of_the_specification(changes: dict[str, Any], why: str) -> None:
    body = json.dumps(event("r", **changes)).encode()
    (row,) = cloudevents.rows("structured", {}, body, READINGS)
    assert isinstance(row, Flaw)
    assert why in row.reason


@given(
    st.dictionaries(st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-x", "content-type"]), st.text()), st.binary()
)
def test_whatever_the_headers_hold(headers: dict[str, str], body: bytes) -> None:
    mode = "binary"
    try:
        (row,) = cloudevents.rows(mode, {**headers, "ce-specversion": "1.0"}, body, READINGS)
    except ValueError:
        return
    assert isinstance(row, (dict, Flaw))
