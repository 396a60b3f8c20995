"""The decoder on messages that were written by hand from the protocol's description."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest

from granary.cdc import pieces
from granary.cdc.pieces import gather
from granary.cdc.postgres.changes import trace
from granary.cdc.postgres.lsn import lsn_number, lsn_text
from granary.cdc.postgres.pgoutput import Decoder
from granary.cdc.postgres.state import Snapshot, State
from granary.warehouse.errors import GranaryError

Y2K = 946_684_800_000_000


def begin(lsn: int, microseconds: int, xid: int) -> bytes:
    return b"B" + struct.pack(">QqI", lsn, microseconds, xid)


def commit(lsn: int, end: int, microseconds: int) -> bytes:
    return b"C\0" + struct.pack(">QQq", lsn, end, microseconds)


def relation(oid: int, name: str, *columns: tuple[str, int]) -> bytes:
    body = b"".join(b"\1" + c.encode() + b"\0" + struct.pack(">Ii", kind, -1) for c, kind in columns)
    return b"R" + struct.pack(">I", oid) + b"public\0" + name.encode() + b"\0d" + struct.pack(">H", len(columns)) + body


def row(*values: str | None) -> bytes:
    """A value is text, None for null, or "..." for one that did not change."""
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if value is None or value == "...":
            parts.append(b"n" if value is None else b"u")
        else:
            parts.append(b"t" + struct.pack(">I", len(value.encode())) + value.encode())
    return b"".join(parts)


def insert(oid: int, *values: str | None) -> bytes:
    return b"I" + struct.pack(">I", oid) + b"N" + row(*values)


def update(oid: int, *values: str | None, key: bytes = b"") -> bytes:
    return b"U" + struct.pack(">I", oid) + (b"K" + key if key else b"") + b"N" + row(*values)


def delete(oid: int, *values: str | None, whole: bool = False) -> bytes:
    return b"D" + struct.pack(">I", oid) + (b"O" if whole else b"K") + row(*values)


def truncate(*oids: int) -> bytes:
    return b"T" + struct.pack(">IB", len(oids), 0) + b"".join(struct.pack(">I", oid) for oid in oids)


STREAM = [
    begin(1000, 5, 77),
    relation(1, "a", ("id", 20), ("t", 25)),
    insert(1, "1", "one"),
    insert(1, "2", None),
    relation(2, "b", ("k", 25)),
    insert(2, "ä"),
    update(1, "1", "..."),
    commit(1000, 1040, 5),
    begin(1100, 6, 78),
    update(1, "3", "drei", key=row("2", None)),
    delete(1, "1", None),
    truncate(1, 2),
    relation(1, "a", ("id", 20), ("t", 25), ("new", 23)),
    insert(1, "9", "", "-5"),
    commit(1100, 1150, 6),
]


def decoded(pieces: list[list[bytes]]) -> list[tuple[object, ...]]:
    """Return (table, op, lsn, xid, seq, time, new texts, old texts) of each change, in the order of the messages."""
    decoder = Decoder(lambda lsn, xid: np.zeros(len(lsn), bool))
    found = []
    for piece in pieces:
        for c in decoder.feed(pa.array(piece, pa.binary())):
            width = range(len(c.relation.columns))
            new, old = ([c.texts(i, images).to_pylist() for i in width] for images in (c.new, c.old))
            for n, op in enumerate(c.ops.tolist()):
                order = (int(c.lsn[n]), int(c.seq[n]), c.relation.name)
                images = tuple(column[n] for column in new), tuple(column[n] for column in old)
                found.append((*order, chr(op), int(c.xid[n]), int(c.committed[n]) - Y2K, *images))
    assert (decoder.end, decoder.committed) == (1150, 6 + Y2K)
    return sorted(found)


WANTED = [
    (1000, 1, "a", "I", 77, 5, ("1", "one"), (None, None)),
    (1000, 2, "a", "I", 77, 5, ("2", None), (None, None)),
    (1000, 3, "b", "I", 77, 5, ("ä",), (None,)),
    (1000, 4, "a", "U", 77, 5, ("1", None), (None, None)),
    (1100, 1, "a", "U", 78, 6, ("3", "drei"), ("2", None)),
    (1100, 2, "a", "D", 78, 6, (None, None), ("1", None)),
    (1100, 3, "a", "T", 78, 6, (None, None), (None, None)),
    (1100, 3, "b", "T", 78, 6, (None,), (None,)),
    (1100, 4, "a", "I", 78, 6, ("9", "", "-5"), (None, None, None)),
]


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_every_message_wherever_the_stream_is_cut(at: int) -> None:
    assert decoded([STREAM[:at], STREAM[at:]]) == WANTED


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 16])
def test_texts_are_copied_piece_by_piece(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece)
    data = np.frombuffer(b"abcdefghij" * 30, np.uint8)
    starts, lengths = np.array([5, 0, 9, 3, 0, 20, 1, 0]), np.array([2, 0, 0, 200, 0, 7, 1, 0])
    valid = np.array([True, False, True, True, True, True, True, False])
    texts = gather(data, starts, lengths, valid)
    texts.validate(full=True)
    assert texts.to_pylist() == ["fg", None, "", "defghijabc" * 20, "", "abcdefg", "b", None]


def test_unchanged_values_are_not_nulls() -> None:
    decoder = Decoder(lambda lsn, xid: np.zeros(len(lsn), bool))
    first = decoder.feed(pa.array(STREAM[:8], pa.binary()))[0]
    assert first.unchanged(1).tolist() == [False, False, True]
    assert first.unchanged(0).tolist() == [False, False, False]


def test_transactions_that_are_stored_are_left_out() -> None:
    decoder = Decoder(State("stream", lsn="0/3E9").skip)  # 1001
    changes = decoder.feed(pa.array(STREAM, pa.binary()))
    assert {int(lsn) for c in changes for lsn in c.lsn} == {1100}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (insert(1, "1"), "2 columns"),
        (insert(1, "1", "one")[:-2], "ends within"),
        (insert(1, "1", "one").replace(b"t\0\0\0\3one", b"b\0\0\0\3one"), "neither text nor null"),
        (insert(9, "1", "one"), "not announced"),
    ],
)
def test_a_damaged_message_is_refused(message: bytes, said: str) -> None:
    decoder = Decoder(lambda lsn, xid: np.zeros(len(lsn), bool))
    with pytest.raises(GranaryError, match=said):
        decoder.feed(pa.array([*STREAM[:2], message], pa.binary()))


def test_lsn_as_text_and_number() -> None:
    assert lsn_number("16/B374D848") == 0x16_B374D848
    assert lsn_text(0x16_B374D848) == "16/B374D848"


def test_what_a_snapshot_has_seen() -> None:
    seen = Snapshot("100:110:103,107", 5000).sees(np.array([99, 100, 103, 105, 107, 109, 110, 111]))
    assert seen.tolist() == [True, True, False, True, False, True, False, False]


def test_transaction_ids_go_round() -> None:
    epoch = 1 << 32
    seen = Snapshot(f"{epoch - 3}:{epoch + 5}:{epoch - 2},{epoch + 1}", 5000)
    xids = np.array([2**32 - 4, 2**32 - 3, 2**32 - 2, 2**32 - 1, 3, 1, 4, 5])
    assert seen.sees(xids).tolist() == [True, True, False, True, True, False, True, False]


def test_the_snapshot_filters_only_what_ended_before_it() -> None:
    state = State("stream", lsn="0/64", snapshot="50:60:55", snapshot_until="0/C8")  # 100, 200
    lsn, xids = np.array([99, 150, 150, 150, 250]), np.array([70, 52, 55, 60, 52])
    assert state.skip(lsn, xids).tolist() == [True, True, False, False, False]


def test_the_state_comes_back_as_it_was() -> None:
    state = State("stream", "0/64", "7", "00000001", "50:60:55", "0/C8", "2026-01-01T00:00:00+00:00")
    assert State.load(state.dump()) == state


def test_where_unchanged_values_are() -> None:
    ops = np.frombuffer(b"IUUUDIUTU", np.uint8)
    keys = [("1",), ("1",), ("2",), ("8",), ("2",), ("2",), ("2",), (None,), ("1",)]
    before = {2: ("1",)}
    masked = np.array([False, True, True, True, False, False, True, False, True])
    # 1 was inserted by row 0; its update 2 moves it to key 2; 8 is only in the current table; after the delete, key 2
    # is the new row 5; after the truncate nothing is anywhere.
    assert trace(ops, keys, before, masked) == [None, 0, 0, ("8",), None, None, 5, None, ()]
