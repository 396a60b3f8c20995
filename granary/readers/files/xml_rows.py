"""XML, element by element, without building a tree. Documents that declare entities or a DTD are refused."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from granary.readers.files.unpack import damaged
from granary.sources.units import Rejected, SourceBatch, UnreadableError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.readers.files.formats import Xml
    from granary.readers.files.limits import Limits
    from granary.sources.spec import Table

BATCH_ROWS = 16_384
READ_BYTES = 256 << 10
DEEPEST = 100
"""Levels of nesting; honest documents have a few."""


def read(stream: IO[bytes], options: Xml, table: Table, limits: Limits, where: str) -> Iterator[SourceBatch]:
    """Yield the elements named by the options as rows of text.

    Raises:
        UnreadableError: the document is not well-formed, declares a DTD or an entity, or a row in it is too large.
        GranaryError: the package that guards the parser is missing.
    """
    try:
        from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
        from defusedxml.ElementTree import DefusedXMLParser, ParseError  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise GranaryError("reading XML needs a package", where, "pip install 'granary-elt[files]'") from None
    rows = _Rows(options.row, table)
    parser = DefusedXMLParser(target=rows, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    rows.line = lambda: int(parser.parser.CurrentLineNumber)
    empty, size = True, 0
    try:
        while block := stream.read(READ_BYTES):
            size = size + len(block) if rows.count == 0 else len(block)
            rows.count = 0
            parser.feed(block)
            if size > limits.record:
                raise UnreadableError(f"an element is longer than {limits.record:,} bytes", where, "split it")
            limits.check_columns(len(rows.columns), where)
            if rows.waiting() >= BATCH_ROWS:
                empty = False
                yield rows.source_batch()
        parser.close()
    except DefusedXmlException as error:
        what = "a DTD" if type(error).__name__ == "DTDForbidden" else "an entity"
        raise UnreadableError(f"the file declares {what}, which may be a bomb", where, "deliver it without") from None
    except ParseError as error:
        raise damaged(error, where, "XML") from None
    if rows.waiting() or empty:
        yield rows.source_batch()


class _Rows:
    """What the parser tells of its elements, turned into rows as they end."""

    def __init__(self, row: str, table: Table) -> None:
        self.row, self.table = row, table
        self.path: list[str] = []
        self.depth = 0
        self.values: dict[str, str | None] = {}
        self.twice = ""
        self.text: list[str] = []
        self.leaf = False
        self.good: list[dict[str, str | None]] = []
        self.bad: list[tuple[int, Rejected]] = []
        self.columns: dict[str, None] = {}
        self.count = 0
        self.line: Any = lambda: None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        name = _local(tag)
        self.depth += 1
        if self.depth > DEEPEST:
            raise UnreadableError(f"elements are nested over {DEEPEST} deep", "", "flatten it")
        if self.path:
            self.path.append(name)
        elif name == self.row:
            self.path, self.values, self.twice = [name], {}, ""
        else:
            return
        self.text, self.leaf = [], True
        for key, value in attributes.items():
            self._put([*self.path[1:], _local(key)], value)

    def data(self, text: str) -> None:
        """Take text."""
        if self.path:
            self.text.append(text)

    def end(self, tag: str) -> None:
        """End an element; if it is a row, it is complete."""
        del tag
        self.depth -= 1
        if not self.path:
            return
        text = "".join(self.text).strip()
        if len(self.path) > 1 and (self.leaf or text):
            self._put(self.path[1:], text or None)
        elif text:
            self._put(["text"], text)
        self.text, self.leaf = [], False
        self.path.pop()
        if not self.path:
            self._finish()

    def close(self) -> None:
        """End the document."""

    def _put(self, path: list[str], value: str | None) -> None:
        name = "_".join(path)
        if name in self.values:
            self.twice = self.twice or name
            value = f"{self.values[name]} | {value}"
        self.values[name] = value

    def _finish(self) -> None:
        self.count += 1
        if self.twice:
            reason = f"has more than one {self.twice}"
            self.bad.append((self.waiting(), Rejected(self.twice, reason, dict(self.values), self.line())))
        else:
            self.columns |= dict.fromkeys(self.values)
            self.good.append(self.values)

    def waiting(self) -> int:
        """Return how many rows there are."""
        return len(self.good) + len(self.bad)

    def source_batch(self) -> SourceBatch:
        """Return the rows that there are, and forget them; columns seen once stay."""
        columns = {name: pa.array([row.get(name) for row in self.good], pa.string()) for name in self.columns}
        # An element that no row has is not a missing column: leaving it out is how XML writes a null.
        for column in self.table.columns:
            if not columns.keys() & {column.name, *column.aliases}:
                columns[column.name] = pa.nulls(len(self.good), pa.string())
        source_batch = SourceBatch(pa.RecordBatch.from_pydict(columns), tuple(self.bad), text=True)
        self.good, self.bad = [], []
        return source_batch


def _local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]
