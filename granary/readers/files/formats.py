"""Formats of files, and how one is recognised by a file's name. Each is a frozen dataclass with its own options."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import TypeAlias

from granary.readers.files.notation import Notation
from granary.sources import validation

Detect = None
"""The default of an option that is found out from the file itself."""


class Options:
    """Shows only what differs from the defaults, as Python source: what `sniff` finds is written into a module."""

    def __post_init__(self) -> None:
        """Check the options."""
        label, values = type(self).__name__, vars(self)
        validation.check(self, label)
        natural = [name for name in ("skip", "sheet") if isinstance(values.get(name), int)]
        positive = [name for name in ("header_row",) if name in values]
        filled = [name for name in ("sheet", "sheet_column", "row") if name in values]
        validation.ranges(values, label, filled=filled, positive=positive, natural=natural)
        validation.codec(label, values.get("encoding"))

    def __repr__(self) -> str:
        settings = [f for f in fields(self) if getattr(self, f.name) != f.default]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in settings)})"


@dataclass(frozen=True, repr=False)
class Csv(Options):
    """Delimited text. What is None is detected, per file.

    Attributes:
        delimiter: one character.
        quote: one character, or "" if values are never quoted.
        escape: the character before a quote within a quoted value; "" if quotes are doubled instead.
        encoding: a codec's name; a byte order mark wins over it.
        header: whether the first row has the names. Without a header, columns come in the contract's order.
        columns: their names in order, for files without a header; a last name "" if each row ends with a delimiter.
        skip: lines before the header, such as a title; a row near it that has the contract's names is the header.
        null: texts that stand for no value when they are not quoted.
        decimal: the decimal point of numbers.
        thousands: what stands between groups of three digits; "" if nothing may.
        dates: `strptime` patterns of dates and times that are not ISO 8601; the first that fits is taken.
    """

    delimiter: str | None = Detect
    quote: str | None = Detect
    escape: str | None = Detect
    encoding: str | None = Detect
    header: bool | None = Detect
    columns: tuple[str, ...] = ()
    skip: int = 0
    null: tuple[str, ...] = ("",)
    decimal: str = "."
    thousands: str = ""
    dates: tuple[str, ...] = ()

    @property
    def notation(self) -> Notation:
        """How values are written."""
        return Notation(self.decimal, self.thousands, self.dates)

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        _ = self.notation
        for name in ("delimiter", "quote", "escape"):
            value = getattr(self, name)
            if value is not None and (len(value.encode()) > 1 or value in ("\n", "\r")):
                raise ValueError(f"{name} is one ASCII character, not {value!r}")
        if self.delimiter == "":
            raise ValueError("delimiter is one ASCII character, not ''")
        if self.quote and self.quote == self.delimiter:
            raise ValueError(f"delimiter and quote are both {self.quote!r}")


@dataclass(frozen=True, repr=False)
class JsonLines(Options):
    """One JSON object a line, in UTF-8."""


@dataclass(frozen=True, repr=False)
class Json(Options):
    """One JSON document: an array of objects, an object with one at `path` (keys joined by dots), or one object.

    Without a path, a document that is an object is one row.
    """

    path: str = ""

    def __post_init__(self) -> None:
        """Check the path."""
        super().__post_init__()
        if self.path and not all(self.path.split(".")):
            raise ValueError(f"Json: path is keys joined by dots, such as 'data.rows', and not {self.path!r}")


@dataclass(frozen=True, repr=False)
class Parquet(Options):
    """Apache Parquet."""


@dataclass(frozen=True, repr=False)
class Orc(Options):
    """Apache ORC."""


@dataclass(frozen=True, repr=False)
class Avro(Options):
    """Avro object container file; the codecs null, deflate, bzip2, snappy, zstandard and xz."""


@dataclass(frozen=True, repr=False)
class Excel(Options):
    """A sheet of a workbook (.xlsx, .xlsm, .xlsb, .xls, .ods).

    Attributes:
        sheet: its name, or its place from 0; None is the first, and the load says which others are not read. A pattern
            such as "2024-*" is each sheet of such a name, one below the other; every one has a header.
        sheet_column: a column of this name takes the sheet's, such as a month that no cell tells.
        header_row: the row with the names, from 1, or a row near it that has the contract's; rows above are skipped.
    """

    sheet: str | int | None = None
    header_row: int = 1
    sheet_column: str | None = None

    @property
    def has_several(self) -> bool:
        """Whether `sheet` is a pattern; no sheet has a star in its name."""
        return isinstance(self.sheet, str) and "*" in self.sheet


@dataclass(frozen=True, repr=False)
class FixedWidth(Options):
    """Lines whose columns have fixed places.

    Attributes:
        columns: (name, width in characters), in order; a name "" is a gap.
        encoding: a codec's name.
        skip: lines before the first row.
        null: texts (after blanks are cut off) that stand for no value.
        decimal: as in `Csv`, and so are thousands and dates.
    """

    columns: tuple[tuple[str, int], ...]
    encoding: str = "utf-8"
    skip: int = 0
    null: tuple[str, ...] = ("",)
    decimal: str = "."
    thousands: str = ""
    dates: tuple[str, ...] = ()

    @property
    def notation(self) -> Notation:
        """How values are written."""
        return Notation(self.decimal, self.thousands, self.dates)

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        _ = self.notation
        if not any(name for name, _ in self.columns) or any(width < 1 for _, width in self.columns):
            raise ValueError("a fixed-width file has columns of at least one character")
        names = [name for name, _ in self.columns if name]
        if len(set(names)) != len(names):
            raise ValueError("FixedWidth: columns names one twice")


@dataclass(frozen=True, repr=False)
class Xml(Options):
    """Elements named `row` anywhere in a document; their attributes and children are columns.

    A nested element is a column named by its path (`address_city`). Namespaces are left out of names.
    """

    row: str


Format: TypeAlias = "Csv | JsonLines | Json | Parquet | Orc | Avro | Excel | FixedWidth | Xml"

SUFFIXES: dict[str, Format] = {
    "csv": Csv(),
    "tsv": Csv(delimiter="\t"),
    "tab": Csv(delimiter="\t"),
    "psv": Csv(delimiter="|"),
    "tbl": Csv(delimiter="|"),
    "txt": Csv(),
    "jsonl": JsonLines(),
    "ndjson": JsonLines(),
    "json": Json(),
    "parquet": Parquet(),
    "pq": Parquet(),
    "orc": Orc(),
    "avro": Avro(),
    **dict.fromkeys(("xlsx", "xlsm", "xlsb", "xls", "ods"), Excel()),
}
COMPRESSIONS = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd", "bz2": "bz2", "zip": "zip"}
NAMES: dict[str, Format] = {
    "csv": Csv(),
    "jsonl": JsonLines(),
    "json": Json(),
    "parquet": Parquet(),
    "orc": Orc(),
    "avro": Avro(),
    "excel": Excel(),
}
"""What `FileReader(format=…)` may be called by; fixed width and XML need options and are given as such."""


def label(found: Format | None) -> str:
    """Return what people call a format."""
    return "what it should be" if found is None else type(found).__name__.lower()


def by_name(name: str) -> tuple[Format | None, str | None]:
    """Return the format and the compression that a file's name tells: "a.csv.gz" is (Csv(), "gzip").

    The format is None if the suffix is none of ours, such as that of "people.zip", whose members tell it.
    """
    suffixes = [suffix[1:].lower() for suffix in PurePosixPath(name).suffixes]
    packed = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if packed:
        suffixes.pop()
    return (SUFFIXES.get(suffixes[-1]) if suffixes else None), packed


def stem(name: str) -> str:
    """Return a file's name without its format's and its compression's suffix: "2026-01-02" of "2026-01-02.csv.gz"."""
    path = PurePosixPath(name)
    if path.suffix[1:].lower() in COMPRESSIONS:
        path = path.with_suffix("")
    return path.stem
