"""What a file is, found out from the file: for writing a source's module, not for loading."""

from __future__ import annotations

import json
import re
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa

from granary.profiling.json_values import column
from granary.readers.files import formats
from granary.readers.files.dialect import beginning, detect, rows
from granary.readers.files.excel import first_rows
from granary.readers.files.limits import Limits
from granary.readers.files.names import NOBODY, check_columns
from granary.readers.files.places import open_store
from granary.readers.files.reader import read_rows
from granary.readers.files.text import BLOCK_BYTES, HEAD_BYTES, encoding_of, lines, utf8
from granary.readers.files.titles import lines_above, rows_above
from granary.readers.files.unpack import DAMAGED, compression, damaged, member, members, unpacked
from granary.sources.spec import Column, Table
from granary.sources.units import Rejected, SourceBatch, UnreadableError
from granary.warehouse.errors import GranaryError
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from granary.readers.files.formats import Format

ROWS = 10_000
WHOLE_BYTES = 64 << 20
"""A JSON document up to this size is parsed at once to find out its types."""
MEMBERS = 50
"""Of so many members of an archive, or sheets of a workbook, the headers are compared."""
DEEPEST = 3
"""Below so many objects an array is looked for in a JSON document."""
MAGIC: dict[bytes, Format] = {
    b"PAR1": formats.Parquet(),
    b"ORC": formats.Orc(),
    b"Obj\x01": formats.Avro(),
    b"\xd0\xcf\x11\xe0": formats.Excel(),
}


class Sniffed(NamedTuple):
    """What a file is.

    Attributes:
        format: "csv", "jsonl", "json", "parquet", "orc", "avro", "excel" or "xml".
        options: the format with what was detected, such as `Csv(delimiter=";", quote='"', …)`. Its `repr` is Python
            source: give it to `FileReader(format=…)` or, for one of several tables, to `options={"people": …}`.
        sample: the first rows with the file's own column names. Columns are text as received for CSV, Excel and XML,
            typed for the others; a header without names is `column_1`, `column_2`, …
        refused: rows among them that no load can take, each with its line and the reason.
        notes: what else is in the file, and is not read.
        optional: names that not all members of an archive have.
    """

    format: str
    options: Format
    sample: pa.Table
    refused: tuple[tuple[int | None, str], ...] = ()
    notes: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()


def sniff(location: str, *, limit: int = ROWS, credentials: Mapping[str, str] | None = None) -> Sniffed:
    """Find out a file's format, compression, delimiter, quote, encoding and header, and read its first rows.

    Compression (gzip, zstd, bzip2, zip) needs no option: a `FileReader` finds it out again for each file. Files with
    fixed widths cannot be told from other text; declare them as `FixedWidth`.

    Args:
        location: a path on this machine, or a URL as `FileReader` takes, but of a single file.
        limit: rows to read at most.
        credentials: as of `FileReader`.

    Raises:
        UnreadableError: the file is damaged, or not what it seems to be.
        GranaryError: it is missing, or its server cannot be read.

    Example:
        >>> format, options, sample = sniff("/landing/people.csv.gz")  # doctest: +SKIP
        >>> format, options.delimiter, sample.column_names  # doctest: +SKIP
        ('csv', ';', ['id', 'name'])
    """
    folder, name = _split(location)
    store = open_store(folder, credentials or {})
    entry = store.entry(name)
    path = store.local(entry)
    limits, where = Limits(), f"{store.place}/{name}"
    found, notes = _found(path, name, limits, where)
    optional = frozenset[str]()
    if isinstance(found, formats.Csv) and zipfile.is_zipfile(path):
        optional, told = _other_columns(path, limits, where)
        notes += told
    table = Table(
        name="sniffed",
        description="A file that nobody has described yet.",
        location=name,
        columns=(Column(NOBODY, pa.string(), "Stands for no column."),),
        disposition="replace_unit",
        freshness=timedelta(days=1),
    )
    label = next((label for label, kind in formats.NAMES.items() if type(kind) is type(found)), "xml")
    taken: list[pa.Table] = []
    refused: list[tuple[int | None, str]] = []
    try:
        source_batches = read_rows(path, name, found, table, limits, where)
        if isinstance(found, formats.JsonLines):
            source_batches = json_lines(path, name, limits, where, limit)
        elif isinstance(found, formats.Json) and (rows := _document(path, name, found, limits, where)):
            source_batches = iter([_of_rows(rows[:limit], limits, where, ())])
        for source_batch in source_batches:
            check_columns(source_batch.batch.schema.names, (), where)
            taken.append(pa.Table.from_batches([source_batch.batch]))
            refused += [(bad.line, bad.reason) for _, bad in source_batch.rejected]
            notes += [note.detail for note in source_batch.notes if note.detail not in notes]
            if sum(part.num_rows for part in taken) >= limit:
                break
        sample = together(taken).slice(0, limit)
    except GranaryError as error:
        if error.where:
            raise
        raise type(error)(error.what, where, error.todo) from None
    except (*DAMAGED, pa.ArrowException) as error:
        raise damaged(error, where, label) from None
    if NOBODY in sample.column_names:
        sample = sample.drop_columns([NOBODY])
    return Sniffed(label, found, sample, tuple(refused), tuple(notes), optional)


def _found(path: Path, name: str, limits: Limits, where: str) -> tuple[Format, list[str]]:
    """Return the format with what was detected, and what to say of it."""
    notes: list[str] = []
    with _opened(path, name, limits, where) as (inner, stream):
        head = _head(stream)
        found = _format(inner, head)
        if isinstance(found, formats.Csv):
            found = _csv(head, stream, found)
    if isinstance(found, formats.Excel):
        found, notes = _sheet(path, found, limits, where) if inner == name else (found, notes)
    if isinstance(found, formats.Json):
        found, beside = _json(_parsed(path, name, limits, where), head)
        notes += beside
    if found is None:
        row, others = _row(head, where)
        found, notes = formats.Xml(row=row), [f"each element {row} is a row; ignored: {others}"] if others else []
    return found, notes


def json_lines(path: Path, name: str, limits: Limits, where: str, limit: int) -> Iterator[SourceBatch]:
    """Yield the first rows of JSON Lines as one batch, so that a column's type is that of all its values."""
    rows: list[dict[str, Any]] = []
    refused: list[tuple[int, Rejected]] = []
    with _opened(path, name, limits, where) as (_, stream):
        head = stream.read(HEAD_BYTES)
        blocks = utf8(head, stream, encoding_of(head, "utf-8"))
        for text, number in _lines(blocks, limits, where):
            if len(rows) >= limit:
                break
            try:
                row = json.loads(text, parse_float=Decimal, parse_constant=_no_number)
                bad = "" if isinstance(row, dict) else "is not a JSON object"
            except (ValueError, RecursionError) as error:
                bad = f"is not JSON: {getattr(error, 'msg', None) or str(error)[:200]}"
            if bad:
                refused.append((len(rows) + len(refused), Rejected("", bad, {}, number)))
            else:
                rows.append(row)
    yield _of_rows(rows, limits, where, tuple(refused))


def _document(path: Path, name: str, found: formats.Json, limits: Limits, where: str) -> list[dict[str, Any]]:
    """Return the objects of a document that is small enough to be held, with every digit; empty if it is not plain."""
    value = _parsed(path, name, limits, where)
    try:
        for key in filter(None, found.path.split(".")):
            value = value[key]
    except (KeyError, TypeError):
        return []
    rows = value if isinstance(value, list) else [value]
    return rows if all(isinstance(row, dict) for row in rows) else []


def _parsed(path: Path, name: str, limits: Limits, where: str) -> Any:
    """Return a document with every digit; None if it is too large to be held, or no JSON."""
    with _opened(path, name, limits, where) as (_, stream):
        data = stream.read(WHOLE_BYTES + 1)
    if len(data) > WHOLE_BYTES:
        return None
    try:
        return json.loads(data.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _of_rows(
    rows: Sequence[dict[str, Any]], limits: Limits, where: str, refused: tuple[tuple[int, Rejected], ...]
) -> SourceBatch:
    names = list(dict.fromkeys(key for row in rows for key in row))
    limits.check_columns(len(names), where)
    arrays = [column([row.get(key) for row in rows]) for key in names]
    return SourceBatch(pa.RecordBatch.from_arrays(arrays, names=names), refused)


def _lines(blocks: Iterator[bytes], limits: Limits, where: str) -> Iterator[tuple[str, int]]:
    for run, first in lines(blocks, limits.record, where):
        for number, line in enumerate(run.split(b"\n")[:-1], first):
            if line.strip():
                yield line.decode("utf-8", "surrogateescape"), number


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def together(parts: Sequence[pa.Table]) -> pa.Table:
    """Return tables one after the other; a column that is text in one of them and something else in others is text.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError: other types do not fit together.
    """
    parts = [part for part in parts if part.num_rows] or list(parts[:1])
    kinds: dict[str, set[pa.DataType]] = {}
    for field in (field for part in parts for field in part.schema):
        kinds.setdefault(field.name, set()).add(field.type)
    mixed = [name for name, types in kinds.items() if pa.string() in types and types - {pa.string(), pa.null()}]
    return pa.concat_tables([_texts(part, mixed) for part in parts], promote_options="permissive")


def _texts(part: pa.Table, names: Sequence[str]) -> pa.Table:
    for name in names:
        if (place := part.schema.get_field_index(name)) >= 0:
            part = part.set_column(place, name, part[name].cast(pa.string()))
    return part


def _split(location: str) -> tuple[str, str]:
    """Return a file's folder (with a URL's options) and its name."""
    if "://" not in location:
        folder, _, name = location.rpartition("/")
        return folder or ("/" if location.startswith("/") else "."), name
    url, mark, query = location.partition("?")
    folder, _, name = url.rpartition("/")
    if urlsplit(location).scheme in ("http", "https"):
        return folder, name + mark + query
    return folder + mark + query, name


@contextmanager
def _opened(path: Path, name: str, limits: Limits, where: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Open a file, unpacked, and tell its own name: that of a zip archive's first member is the member's."""
    with path.open("rb") as handle:
        packed = compression(handle.read(4))
    if packed == "zip" and not isinstance(formats.by_name(name)[0], formats.Excel):
        with zipfile.ZipFile(path) as archive:
            chosen = members(archive, "*", limits, where)
            if not chosen:
                raise GranaryError("the archive is empty", where, "look at another file")
            first = next((info for info in chosen if formats.by_name(info.filename)[0]), chosen[0])
            with member(archive, first, limits, where) as stream:
                yield first.filename, stream
    else:
        with unpacked(path, limits, where) as stream:
            yield name, stream


def _head(stream: IO[bytes]) -> bytes:
    """Return the first bytes; a compressed stream may give them in parts."""
    head = b""
    while len(head) < HEAD_BYTES and (block := stream.read(HEAD_BYTES - len(head))):
        head += block
    return head


def _format(name: str, head: bytes) -> Format | None:
    """Return the format by the content if that is plain, else by the name, else CSV; None for XML."""
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            return found
    named = formats.by_name(name)[0]
    if isinstance(named, formats.Excel):
        return named
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        return None
    if text[:1] in (b"{", b"[") and not isinstance(named, formats.Csv):
        lines = [line for line in text.split(b"\n")[:3] if line.strip()]
        single = text.startswith(b"{") and _is_json(lines[0])
        several = len(lines) > 1 and lines[1].lstrip().startswith(b"{")
        if single and (several or isinstance(named, formats.JsonLines)):
            return formats.JsonLines()
        return formats.Json()
    return named if isinstance(named, formats.Csv) else formats.Csv()


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _csv(head: bytes, stream: IO[bytes], found: formats.Csv) -> formats.Csv:
    """Return the dialect of a text whose beginning is read; its encoding is that of the whole text."""
    blocks = iter(lambda: stream.read(BLOCK_BYTES), b"")
    return _dialect(head, replace(found, encoding=encoding_of(head, None, blocks)))


def _other_columns(path: Path, limits: Limits, where: str) -> tuple[frozenset[str], list[str]]:
    """Return the columns that not all texts of an archive have, and what to say: they may be different tables."""
    headers: dict[frozenset[str], str] = {}
    with zipfile.ZipFile(path) as archive:
        for info in members(archive, "*", limits, where)[:MEMBERS]:
            if not isinstance(formats.by_name(info.filename)[0], formats.Csv):
                continue
            with member(archive, info, limits, where) as stream:
                head = _head(stream)
            found = _dialect(head, formats.Csv(encoding=encoding_of(head, None)))
            text = beginning(head, found.encoding)
            first = rows(text, str(found.delimiter), str(found.quote), str(found.escape))[found.skip : found.skip + 1]
            if first and found.header:
                headers.setdefault(frozenset(first[0]), info.filename)
    if len(headers) < 2:  # noqa: PLR2004 - one header is nobody else's
        return frozenset(), []
    shown = " and ".join(list(headers.values())[:2])
    told = (
        f"the archive's members have different columns ({shown}) and land in one table; if they are different tables,"
        " unpack the archive, or declare a source for each, FileReader(members=…)"
    )
    return frozenset.union(*headers) - frozenset.intersection(*headers), [told]


def _dialect(head: bytes, found: formats.Csv) -> formats.Csv:
    """Return the dialect, with the lines above the header; a file without one gets names for its columns."""
    known, found = found, detect(head, found)
    text = beginning(head, found.encoding)
    if above := lines_above(text, found):
        found = detect(head, replace(known, skip=above))
    if found.header:
        return found
    first = next(iter(rows(text, str(found.delimiter), str(found.quote), str(found.escape))), [])
    return replace(found, columns=tuple(f"column_{place}" for place in range(1, len(first) + 1)))


def _sheet(path: Path, found: formats.Excel, limits: Limits, where: str) -> tuple[formats.Excel, list[str]]:
    """Return which sheets of a workbook have the rows, and below which header, and what to say of it.

    All sheets that have a value do if they have the same header. Of a workbook that came packed nothing is found out.
    """
    with path.open("rb") as stream:
        if compression(stream.read(4)) not in (None, "zip"):
            return found, []
        others, rows = first_rows(stream, found, limits, where)
        above = rows_above(rows)
        found = replace(found, header_row=above + 1)
        header = rows[above] if rows and len(others) < MEMBERS else []
        try:
            more = [first_rows(stream, replace(found, sheet=other), limits, where)[1] for other in others if header]
        except UnreadableError:  # of another sheet than the one that is read
            return found, []
    filled = [theirs for theirs in more if any(map(any, theirs))]
    if not filled or any(rows_above(theirs) != above or theirs[above] != header for theirs in filled):
        return found, []
    names = {name.strip().lower() for name in header}
    column = next(name for name in ("sheet", "sheet_name", "name_of_sheet") if name not in names)
    said = f"its {len(filled) + 1} sheets have the same header, and are read one below the other: {column} says which"
    return replace(found, sheet="*", sheet_column=column), [said]


def _json(document: Any, head: bytes) -> tuple[formats.Json, list[str]]:
    """Return where the objects are, at the top or in the first array of objects, and what is beside them.

    An array further down counts only below objects without plain values, and where there is none above. Of a document
    that is too large to be held, it is the first array that comes after plain values only.
    """
    if not isinstance(document, dict):
        text = head.decode("utf-8-sig", "replace").lstrip()
        first = re.match(r'\{\s*(?:"\w+"\s*:\s*[^\[{]*?,\s*)*"(\w+)"\s*:\s*\[\s*\{', text)
        return formats.Json(path=first[1] if first else ""), []
    arrays = dict(_arrays(document, ()))
    names = {keys: repr(".".join(keys))[1:-1] for keys in arrays}
    near = [keys for keys in arrays if all(_is_envelope(document, keys[:depth]) for depth in range(len(keys) - 1))]
    if not near:
        inside = ", ".join(names.values())[:200]
        said = f"the document is one row, though it has arrays of objects (path makes rows of one): {inside}"
        return formats.Json(), [said] if arrays else []
    path = min(near, key=len)
    beside: list[str] = []
    for depth, key in enumerate(path):
        beside += [repr(".".join((*path[:depth], other)))[1:-1] for other in document if other != key]
        document = document[key]
    said = f"{plural(arrays[path], 'row')}: the objects at {names[path]} (path); ignored: {', '.join(beside)[:200]}"
    return formats.Json(path=".".join(path)), [said] if beside else []


def _arrays(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the arrays of objects below a document, by their keys, and how long each is."""
    for key, inner in value.items():
        if not key or "." in key:
            continue
        if isinstance(inner, dict) and len(path) < DEEPEST:
            yield from _arrays(inner, (*path, key))
        elif isinstance(inner, list) and inner and all(isinstance(each, dict) for each in inner):
            yield (*path, key), len(inner)


def _is_envelope(value: Any, path: Sequence[str]) -> bool:
    """Return whether the object at a path has nothing but objects and arrays in it."""
    for key in path:
        value = value[key]
    return all(isinstance(each, (dict, list)) for each in value.values())


def _row(head: bytes, where: str) -> tuple[str, str]:
    """Return the name of the elements that are rows, the first that comes again at its depth, and of others there."""
    text = re.sub(r"<[?!][^>]*>", "", head.decode("utf-8", "replace"))
    depth = 0
    seen: dict[tuple[int, str], int] = {}
    order: list[tuple[int, str]] = []
    for close, tag, alone in re.findall(r"<(/?)([^\s<>/]+)[^<>]*?(/?)>", text):
        if close:
            depth -= 1
            continue
        key = depth, tag.rpartition(":")[2]
        seen[key] = seen.get(key, 0) + 1
        order.append(key)
        depth += not alone
    again = [key for key in order if key[0] and seen[key] > 1]
    below = [key for key in order if key[0]]
    if not below:
        raise GranaryError("the document has no elements below its root", where, "look at another file")
    depth, row = min(again or below, key=lambda key: key[0])
    return row, ", ".join(dict.fromkeys(repr(tag)[1:-1] for at, tag in again if at == depth and tag != row))
