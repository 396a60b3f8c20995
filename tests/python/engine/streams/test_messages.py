"""Addresses, signatures, positions and JSON messages: what outsiders write, and what it means."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from granary.sources.discovery import SOURCES
from granary.sources.spec import Stream
from granary.streams import webhooks
from granary.streams.address import parse
from granary.streams.decoding import JsonDecoder
from granary.streams.log import Message
from granary.streams.positions import moved, of_kind, without_gaps
from granary.streams.signatures import NotSignedError, secrets_of, sign, verify
from granary.warehouse.errors import GranaryError
from tests.python.support.project.ingestion.events import CARD_SCANS

SECRET = "a secret of 32 bytes or so it is"


def test_address_of_kafka() -> None:
    found = parse("kafka://a:9092,b:9092?group=g&sasl.password=p%26+q&max_bytes=10", "S")
    assert (found.kind, found.hosts, found.format, found.group, found.max_bytes) == (
        "kafka",
        "a:9092,b:9092",
        "json",
        "g",
        10,
    )
    assert found.options == {"sasl.password": "p&+q"}
    assert "p&" not in repr(found)


def test_address_of_kinesis() -> None:
    found = parse("kinesis://eu-central-1?endpoint=http://127.0.0.1:5000", "S")
    assert (found.kind, found.hosts, found.endpoint) == ("kinesis", "eu-central-1", "http://127.0.0.1:5000")


@pytest.mark.parametrize(
    "text",
    ["", "kafka:", "http://a", "kafka://a/b", "kafka://a?format=xml", "kafka://a?max_bytes=-1", "kinesis://eu?formt=x"],
)
def test_no_address(text: str) -> None:
    with pytest.raises(GranaryError, match=r"^SETTING "):
        parse(text, "SETTING")


def test_signature_of_openssl() -> None:
    """printf '1700000000.{}' | openssl dgst -sha256 -hmac 'a secret of 32 bytes or so it is'"""
    header = sign(SECRET, 1_700_000_000, b"{}")
    assert header == "t=1700000000,v1=ac96806b3764df26253329f9d02091c56fe81d2cf89ea7a494ae2491ee4ed22b"
    verify([SECRET], header, b"{}", 1_700_000_299)
    verify(["another secret of enough bytes", SECRET], header, b"{}", 1_699_999_701)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (None, "is missing"),
        ("", "is missing"),
        ("v1=00", "is not of the form"),
        ("t=x,v1=00", "is not of the form"),
        ("t=1700000000", "is not of the form"),
        ("t=1700000000,t=1700000001,v1=00", "is not of the form"),
        ("t=1700000000,v1=00", "another secret or another body"),
        ("t=1700000000,v1=ü", "another secret or another body"),
        (sign(SECRET, 1_700_000_000, b"{ }"), "another secret or another body"),
        (sign("another secret of enough bytes", 1_700_000_000, b"{}"), "another secret or another body"),
        (sign(SECRET, 1_700_000_000, b"{}", key="k"), "another secret or another body"),
        (sign(SECRET, 1_699_999_699, b"{}"), "more than 300 s away"),
        (sign(SECRET, 1_700_000_301, b"{}"), "more than 300 s away"),
    ],
)
def test_not_signed(header: str | None, why: str) -> None:
    with pytest.raises(NotSignedError, match=why):
        verify([SECRET], header, b"{}", 1_700_000_000)


def test_secrets_are_rotated() -> None:
    first, second = secrets_of(f"{SECRET}, the next secret of many bytes", "S")
    both = sign(first, 1_700_000_000, b"{}") + "," + sign(second, 1_700_000_000, b"{}").partition(",")[2]
    for known in ([first], [second], [first, second]):
        verify(known, both, b"{}", 1_700_000_000)
    with pytest.raises(GranaryError, match="less than 16 bytes"):
        secrets_of("short", "S")
    with pytest.raises(GranaryError, match="less than 16 bytes"):
        secrets_of("", "S")


def test_positions_of_several_logs_share_a_watermark() -> None:
    both = moved(moved(None, "kafka", "t[0]", "5"), "kinesis", "s[shardId-1]", "ended")
    assert of_kind(both, "kafka") == {"t[0]": "5"}
    assert of_kind(both, "kinesis") == {"s[shardId-1]": "ended"}
    assert of_kind(moved(both, "kafka", "t[0]", "6"), "kafka") == {"t[0]": "6"}


def test_gaps_in_offsets() -> None:
    messages = [Message(b"", line) for line in (3, 4, 7, 8, 10)]
    assert [[m.line for m in run] for run in without_gaps(messages)] == [[3, 4], [7, 8], [10]]
    unknown = [Message(b"", None)] * 3
    assert [len(run) for run in without_gaps(unknown)] == [3]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()), max_size=6))
def test_nothing_that_arrives_stops_the_decoder(values: list[bytes]) -> None:
    messages = [Message(value, line) for line, value in enumerate(values)]
    (decoded,) = JsonDecoder(CARD_SCANS, 100).decode("", messages)
    assert decoded.batch.num_rows + len(decoded.rejected) == len(messages)
    assert all(messages[index].line == bad.line for index, bad in decoded.rejected)


def test_a_message_that_is_too_large_is_kept_as_it_is() -> None:
    small, large = b'{"event_id": "a"}', b'{"event_id": "a", "note": "%s"}' % (b"x" * 100)
    decoder = JsonDecoder(CARD_SCANS, len(large) - 1)
    (decoded,) = decoder.decode("", [Message(small, 1), Message(large, 2)])
    ((index, bad),) = decoded.rejected
    assert (index, bad.reason, bad.line) == (1, f"is larger than {len(large) - 1} bytes", 2)
    assert bad.payload == {"event_id": "a", "note": "x" * 100}


def test_records_that_the_kinesis_producer_library_has_aggregated_are_not_taken_apart() -> None:
    aggregated = b"\xf3\x89\x9a\xc2" + b'\n\x01a\x1a\x11{"event_id": "a"}' + bytes(16)
    (decoded,) = JsonDecoder(CARD_SCANS, 1000).decode("", [Message(aggregated)])
    ((_, bad),) = decoded.rejected
    assert (bad.reason, bad.payload) == ("is not UTF-8 text", {"base64": b64encode(aggregated).decode()})


def test_a_body_that_comes_too_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        """A request whose body never ends."""

        headers: ClassVar[dict[str, str]] = {}

        async def stream(self) -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.01)

    monkeypatch.setattr(webhooks, "BODY_SECONDS", 0.1)
    with pytest.raises(webhooks.Answer) as caught:
        asyncio.run(webhooks._body(Slow(), webhooks.Reading(webhooks.Room(1_000_000), 1_000_000)))  # type: ignore[arg-type]
    assert (caught.value.status, caught.value.body) == (408, {"error": "the body did not arrive within 0.1 s"})


@pytest.mark.parametrize("name", ["", "a\n", "_load_id", "ä" * 32])
def test_names_that_no_column_can_have(name: str) -> None:
    (decoded,) = JsonDecoder(CARD_SCANS, 1000).decode("", [Message(json.dumps({name: 1}).encode(), 4)])
    assert decoded.rejected[0][1].reason == "names a field that no column can have the name of"


def test_what_may_not_stream() -> None:
    """A table's watermark is either a cursor or the positions of a log."""
    source = SOURCES["events"]
    with pytest.raises(ValueError, match="streams a table that is not its own"):
        replace(source, stream=Stream({"members": "h"}, "A", "S"))
    with pytest.raises(ValueError, match="whose watermark is a cursor"):
        replace(source, tables=(replace(CARD_SCANS, cursor="occurred_at"),))
