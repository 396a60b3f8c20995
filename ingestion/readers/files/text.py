"""Text in any encoding, as a stream of UTF-8."""

from __future__ import annotations

import codecs
from itertools import chain
from typing import IO, TYPE_CHECKING

from ingestion.spec import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 4 << 20
HEAD_BYTES = 256 << 10
"""What is looked at to find out an encoding or a dialect."""

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
LEGACY = "cp1252"
"""Taken for text that is not Unicode: what Western Windows programs write. Others must be declared."""


def encoding_of(head: bytes, declared: str | None = None) -> str:
    """Return the encoding of a text that begins with `head`: its byte order mark's, the declared, or the likeliest."""
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if declared:
        return codecs.lookup(declared).name
    if head[1:200:2].count(0) > len(head[1:200:2]) // 2:
        return "utf-16-le"
    if head[0:200:2].count(0) > len(head[0:200:2]) // 2:
        return "utf-16-be"
    whole = len(head) < HEAD_BYTES  # otherwise its last character may be cut off
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head, whole)
    bad = text.count("\ufffd")
    # Some characters of UTF-8 are never there by accident: where they prevail, a bad byte is a broken row.
    return "utf-8" if bad <= sum(character > "\x7f" for character in text) - bad else LEGACY


def utf8(head: bytes, stream: IO[bytes], encoding: str) -> Iterator[bytes]:
    """Yield a text that begins with `head` and goes on in `stream`, as UTF-8 without its byte order mark.

    Lines end with a newline, also those of an old Macintosh (a carriage return).
    Bytes that are no text in the encoding come out as invalid UTF-8, so that whoever parses can refuse their row.
    """
    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
    first, old_mac = True, False
    for raw in chain([head], iter(lambda: stream.read(BLOCK_BYTES), b"")):
        block = raw if decoder is None else _encode(decoder, raw)
        if first:
            first = False
            block = block.removeprefix(codecs.BOM_UTF8)
            old_mac = b"\r" in block and b"\n" not in block
        yield block.replace(b"\r", b"\n") if old_mac else block
    if decoder is not None and (last := _encode(decoder, b"", final=True)):
        yield last


def _encode(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bytes:
    try:
        return decoder.decode(block, final).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:  # UTF-16 and UTF-32 cannot escape what they cannot read
        raise UnreadableError(f"the file is not {error.encoding}: {error.reason}", "", "declare its encoding") from None


def lines(blocks: Iterator[bytes], limit: int, where: str) -> Iterator[tuple[bytes, int]]:
    """Yield runs of whole lines, each with the number of its first line, from 1; the last line gets its newline.

    Raises:
        UnreadableError: a line is longer than `limit` bytes.
    """
    rest, number = b"", 1
    for block in blocks:
        data = rest + block
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(rest) > limit:
            raise UnreadableError(f"a line is longer than {limit:,} bytes", f"{where}, line {number}", "is it text?")
        if end:
            yield data[:end], number
            number += data.count(b"\n", 0, end)
    if rest:
        yield rest + b"\n", number
