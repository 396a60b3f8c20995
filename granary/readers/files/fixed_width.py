"""Lines whose columns have fixed places, cut by Arrow."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from granary.readers.files.notation import null_words_of
from granary.readers.files.text import encoding_of, lines, utf8
from granary.sources.units import Rejected, SourceBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.readers.files.formats import FixedWidth
    from granary.readers.files.limits import Limits
    from granary.sources.spec import Table

HEAD_BYTES = 1 << 16


def read(stream: IO[bytes], options: FixedWidth, table: Table, limits: Limits, where: str) -> Iterator[SourceBatch]:
    """Yield the rows, as text but for what has a notation of its own.

    A line may lack blanks at its end, so that its last column is shorter or empty.

    Raises:
        UnreadableError: a line is too long to be one.
    """
    head = stream.read(HEAD_BYTES)
    skip, empty = options.skip, True
    types = {name: column.type for column in table.columns for name in (column.name, *column.aliases)}
    words = null_words_of(table)
    for data, line in lines(utf8(head, stream, encoding_of(head, options.encoding)), limits.record, where):
        texts = data.split(b"\n")[:-1]
        skipped = min(skip, len(texts))
        skip -= skipped
        source_batch = _source_batch(texts[skipped:], line + skipped, options, types, words)
        if source_batch.rows:
            empty = False
            yield source_batch
    if empty:
        yield _source_batch([], 1, options, types, words)


def _source_batch(
    texts: list[bytes],
    first: int,
    options: FixedWidth,
    types: Mapping[str, pa.DataType],
    words: Mapping[str, tuple[str, ...]],
) -> SourceBatch:
    widths = [width for _, width in options.columns]
    last = max(place for place, (name, _) in enumerate(options.columns) if name)
    least, most = sum(widths[:last]), sum(widths)
    good: list[str] = []
    places: list[tuple[int, int]] = []
    bad: list[tuple[int, Rejected]] = []
    blank = 0
    for line, raw in enumerate((text.rstrip(b"\r") for text in texts), first):
        if not raw.strip():
            blank += 1
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text, reason = raw.decode("utf-8", "backslashreplace"), "is not text in its encoding"
        else:
            long = len(text) < least or len(text.rstrip()) > most or "\0" in text
            reason = f"has {len(text)} characters, not {least} to {most}" if long else ""
        if reason:
            shown = {"line": text.replace("\0", "\\x00")}
            bad.append((len(good) + len(bad), Rejected("", reason, shown, line)))
        else:
            places.append((len(good) + len(bad), line))
            good.append(text)
    column = pa.array(good, pa.string())
    columns, at = {}, 0
    for name, width in options.columns:
        if name:
            values = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(column, at, at + width))
            absent = pc.is_in(values, pa.array(options.null, pa.string()))
            columns[name] = pc.if_else(absent, pa.scalar(None, pa.string()), values)
        at += width
    batch, misfits = options.notation.settled(pa.RecordBatch.from_pydict(columns), types, words)
    bad += [(places[i][0], Rejected(name, why, row, places[i][1])) for i, (name, why, row) in misfits.items()]
    keep = pa.array([index not in misfits for index in range(batch.num_rows)], pa.bool_())
    straight = None if blank or bad else first
    return SourceBatch(batch.filter(keep), tuple(sorted(bad, key=lambda each: each[0])), text=True, line=straight)
