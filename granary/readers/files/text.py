"""Text in any encoding, as a stream of UTF-8."""

from __future__ import annotations

import codecs
from itertools import chain
from typing import IO, TYPE_CHECKING

from granary.sources.units import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

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


def encoding_of(head: bytes, declared: str | None = None, rest: Iterable[bytes] = ()) -> str:
    """Return the encoding of a text that begins with `head`: its byte order mark's, the declared, or the likeliest.

    `rest` goes on where `head` ends. It is read only if it matters, and as far.
    """
    ends = rest != () or len(head) < HEAD_BYTES  # otherwise its last character may be cut off
    return certain(head, declared) or by_content(chain([head], rest), ends)


def certain(head: bytes, declared: str | None = None) -> str | None:
    """Return an encoding that needs no look at the characters: a byte order mark's, the declared, or a wide one."""
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if declared:
        return codecs.lookup(declared).name
    if head[1:200:2].count(0) > len(head[1:200:2]) // 2:
        return "utf-16-le"
    return "utf-16-be" if head[0:200:2].count(0) > len(head[0:200:2]) // 2 else None


def by_content(blocks: Iterable[bytes], ends: bool = True) -> str:
    """Return UTF-8 or LEGACY, by a whole text, or by the beginning of one that goes on, if it does not end.

    Characters of UTF-8 beyond ASCII do not come about by accident: where there is one, a byte that is not UTF-8 is a
    broken row, and only a text that has none but such bytes is of the other kind.
    """
    decoder, foreign = codecs.getincrementaldecoder("utf-8")("replace"), False
    for block in chain(blocks, [b""] if ends else []):
        if block.isascii() and block and not decoder.getstate()[0]:
            continue
        beyond = [character for character in decoder.decode(block, not block) if character > "\x7f"]
        if any(character != "\ufffd" for character in beyond):
            return "utf-8"
        foreign |= bool(beyond)
    return LEGACY if foreign else "utf-8"


class Doubt:
    """The encoding of a text that tells none: UTF-8, unless the whole text speaks against it.

    The text is asked when a byte comes that is not ASCII: what came before is the same in both encodings.
    """

    def __init__(self, reopen: Callable[[], AbstractContextManager[IO[bytes]]] | None, head: bytes) -> None:
        """Remember how to read the text from its beginning once more; without that, its head has to tell."""
        self.reopen, self.head = reopen, head
        self.encoding = "utf-8"

    def settle(self) -> str:
        """Find out the encoding by the whole text."""
        if self.reopen is None:
            self.encoding = by_content([self.head])
        else:
            with self.reopen() as stream:
                self.encoding = by_content(iter(lambda: stream.read(BLOCK_BYTES), b""))
        return self.encoding


def utf8(head: bytes, stream: IO[bytes], encoding: str | Doubt) -> Iterator[bytes]:
    """Yield a text that begins with `head` and goes on in `stream`, as UTF-8 without its byte order mark.

    Lines end with a newline, also those of an old Macintosh (a carriage return).
    Bytes that are no text in the encoding come out as invalid UTF-8, so that whoever parses can refuse their row.
    """
    doubt = encoding if isinstance(encoding, Doubt) else None
    decoder = _decoder("utf-8" if doubt else str(encoding))
    first, old_mac = True, False
    for raw in chain([head], iter(lambda: stream.read(BLOCK_BYTES), b"")):
        if doubt and not raw.isascii():
            decoder, doubt = _decoder(doubt.settle()), None
        block = raw if decoder is None else _encode(decoder, raw)
        if first:
            first = False
            block = block.removeprefix(codecs.BOM_UTF8)
            old_mac = b"\r" in block and b"\n" not in block
        yield block.replace(b"\r", b"\n") if old_mac else block
    if decoder is not None and (last := _encode(decoder, b"", final=True)):
        yield last


def _decoder(encoding: str) -> codecs.IncrementalDecoder | None:
    return None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)(errors="surrogateescape")


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
