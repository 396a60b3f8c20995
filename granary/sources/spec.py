"""What a source is: frozen, self-validating specs that every loader, test and asset is made from."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import pyarrow as pa

from granary.sources import subjects, validation
from granary.sources.config import setting
from granary.sources.validation import NAME
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import arrow_type, sql_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from granary.sources.units import NotLoaded, SourceBatch, Unit
    from granary.warehouse.findings import Finding
    from granary.warehouse.settings import Settings

Disposition = Literal["replace_unit", "merge", "replace", "append"]
"""replace_unit: a unit's rows replace those of its earlier load. merge: rows are upserted by key.
replace: rows are upserted by key and keys that the source no longer has are deleted.
append: rows are added and never change; a row whose key is there already is not stored twice."""

NewColumns = Literal["add", "ignore", "refuse"]
"""What happens to a delivered column that the contract does not name."""
Retyped = Literal["fit", "widen", "refuse"]
"""What happens when a column is delivered in a wider type than agreed (bigint for integer, timestamp for date).
fit: values that fit are loaded, rows with others are refused. widen: the raw column takes the wider type.
refuse: the load stops. A narrower type always fits."""
Copies = Literal["report", "load"]
"""What happens to a unit with the content of another one: it is reported and left out, or loaded as well."""
Personal = Literal["identifier", "demographic", "pseudonym"]
"""The tier of a column with personal data; the same ones as in dbt (the var `personal_tiers`, docs/engine/access.md).
identifier: it names or reaches a person. demographic: it says something about one. pseudonym: it tells persons apart
and names nobody."""
Bound = int | float | Decimal | date | datetime
"""The least or the greatest value of a column, of the column's own kind; of text and bytes the length."""
SLOT = re.compile(r"[a-z0-9_]{1,63}")


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Column:
    """One column of a contract: its Arrow type, and what a row must satisfy to be loaded.

    `minimum` and `maximum` are of the column's kind: numbers, dates, instants (with a zone where the column has one).
    Those of text are its number of characters, those of binary columns that of bytes. A number that is not finite
    (NaN, Infinity) is refused, unless `finite` is False; NaN is never within bounds.
    `aliases` are other names under which a source delivers it: a header such as "Customer ID", or a former name.
    `missing` says whether a delivery without it stops the load or lands nulls. `null` are texts that stand for no value
    in this column ("NA", "-"), quoted or not and with blanks around them or not. A text column that is `mixed` takes
    the numbers and truth values of JSON too, as they were written. `subject` names the data subject (dbt_project.yml,
    vars: data_subjects) whose keys the column holds: rows of a person are found, and forgotten, only where it says so.
    """

    name: str
    type: pa.DataType
    description: str
    nullable: bool = True
    minimum: Bound | None = None
    maximum: Bound | None = None
    allowed: tuple[str, ...] = ()
    personal: Personal | None = None
    aliases: tuple[str, ...] = ()
    missing: Literal["refuse", "null"] = "refuse"
    subject: str | None = None
    finite: bool = True
    null: tuple[str, ...] = ()
    mixed: bool = False

    def __post_init__(self) -> None:
        """Check the column."""
        validation.check(self, f"column {self.name}")
        _check(
            all(word.strip() == word for word in self.null),
            f"column {self.name}: null is a tuple of texts without blanks around them",
        )
        _check(NAME.fullmatch(self.name) is not None, f"column name {self.name!r} is not lower snake case")
        _check(bool(self.description), f"column {self.name} has no description")
        _check_type(self.type, f"column {self.name}")
        _check_subject(self)
        for bound in ("minimum", "maximum"):
            _check_bound(getattr(self, bound), self.type, f"column {self.name}: {bound}")
        _check(
            self.minimum is None or self.maximum is None or self.minimum <= self.maximum,  # type: ignore[operator]
            f"column {self.name}: its minimum is over its maximum",
        )
        _check(
            self.finite or pa.types.is_floating(self.type),
            f"column {self.name}: only floating-point numbers can be other than finite",
        )
        _check(not self.allowed or self.type == pa.string(), f"column {self.name}: allowed values need text")
        _check(not self.mixed or self.type == pa.string(), f"column {self.name}: only text can be mixed")
        _check(
            self.missing == "refuse" or self.nullable, f"column {self.name} may be missing, so it has to be nullable"
        )


@dataclass(frozen=True)
class Table:
    """One table of a source: its contract and how it arrives.

    `location` is what the source's reader needs to find it: a path pattern, a table name or an endpoint.
    `floor` is the least share of its present rows that a replacing load may leave; `max_refused` the largest
    share of refused rows that a load may have; `max_new_columns` the most columns that the raw table may have beyond
    the contract. `partition` is "day" if each unit is one business date. `copies` says
    whether a file with the content of another one is only reported, or loaded as well, such as a daily price list
    that did not change. `poll` is how often a database or an API is asked by itself under `granary serve`: a part of
    an hour or of a day without a rest, from a minute to a day. Files need none: their arrival is noticed.
    `archive_after` is the age of its data from which rows move to files of a lake (docs/engine/archive.md).
    """

    name: str
    description: str
    location: str
    columns: tuple[Column, ...]
    disposition: Disposition
    freshness: timedelta
    key: tuple[str, ...] = ()
    cursor: str | None = None
    partition: Literal["day"] | None = None
    new_columns: NewColumns = "add"
    retyped: Retyped = "fit"
    contract: int = 1
    floor: float = 0.5
    max_refused: float = 0.005
    copies: Copies = "report"
    max_new_columns: int = 200
    poll: timedelta | None = None
    archive_after: timedelta | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        filled, label = ("description",), f"table {self.name}"
        validation.check(self, label, filled=filled, positive=("contract",), natural=("max_new_columns",))
        names = [column.name for column in self.columns]
        _check(NAME.fullmatch(self.name) is not None, f"table name {self.name!r} is not lower snake case")
        _check(bool(names), f"table {self.name} has no columns")
        known = [*names, *(alias for column in self.columns for alias in column.aliases)]
        _check(len(set(known)) == len(known), f"table {self.name} names a column twice")
        _check(set(self.key) <= set(names), f"table {self.name}: its key is not among its columns")
        _check(self.cursor is None or self.cursor in names, f"table {self.name}: its cursor is not a column")
        _check(
            bool(self.key) or self.disposition in ("replace_unit", "append"),
            f"table {self.name}: {self.disposition} needs a key",
        )
        _check(all(not self.column(k).nullable for k in self.key), f"table {self.name}: a key column may be null")
        _check(0 <= self.floor <= 1 and 0 <= self.max_refused <= 1, f"table {self.name}: shares are from 0 to 1")
        _check(len(set(self.key)) == len(self.key), f"table {self.name}: its key names a column twice")
        _check(self.freshness > timedelta(0), f"table {self.name}: freshness must be positive")
        _check(
            self.poll is None or any(divides(self.poll, whole) for whole in (HOUR, DAY)),
            f"table {self.name}: poll is a part of an hour or of a day, such as timedelta(minutes=15)",
        )
        _check(
            self.archive_after is None or self.archive_after > timedelta(0),
            f"table {self.name}: archive_after is a time, such as timedelta(days=400)",
        )
        _check(
            self.archive_after is None or (self.disposition in ("replace_unit", "append") and not self.key),
            f"table {self.name}: archive_after is for tables of which no row is found by a key, or it could come twice:"
            " replace_unit or append without one",
        )
        _check(self.poll is None or not self.is_daily, f"table {self.name}: what comes by the day is not polled")

    def column(self, name: str) -> Column:
        """Return a column by name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def is_daily(self) -> bool:
        """Whether each unit is one business date."""
        return self.partition == "day"

    @property
    def schema(self) -> pa.Schema:
        """The contract as an Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


class Reader(Protocol):
    """How a kind of system is read. It knows formats and protocols, and nothing of the warehouse."""

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return what the source offers now, in the order in which it should land."""
        ...

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        """Yield the unit's rows in order, with the source's own columns."""
        ...


@runtime_checkable
class ConditionalReader(Protocol):
    """A reader that asks its source only for what has changed: it gets the known fingerprints before `units`."""

    def use_fingerprints(self, known: Mapping[str, str]) -> None:
        """Take note of the fingerprints that units had when they were loaded."""
        ...


@runtime_checkable
class KeepsPosition(Protocol):
    """A reader whose source says itself how far it was read: what it says is the table's watermark.

    It may end a unit before its source has ended; the next load of the same reader then goes on. `whole` forbids that.
    """

    whole: bool

    def position(self, table: Table) -> str | None:
        """Return where the source is read on after what was read; None if it was read whole."""
        ...

    def has_more(self, table: Table) -> bool:
        """Return whether the source has more than was read."""
        ...

    def replaces(self, table: Table) -> bool:
        """Return whether what was read is all that the source has of a table that is merged."""
        ...


@runtime_checkable
class KeepsSecrets(Protocol):
    """A reader that writes logs, and has to know what must not be in them."""

    def hide(self, values: Sequence[str]) -> None:
        """Take note of values that must not be shown."""
        ...


@runtime_checkable
class Examined(Protocol):
    """A reader that knows of its source what an attempt to read does not show: its clock, its indexes."""

    def examine(self, tables: Sequence[Table]) -> Iterator[Finding]:
        """Yield what could be better; it is called after each table was read from."""
        ...


@runtime_checkable
class ReportsNotLoaded(Protocol):
    """A reader whose place can be looked through for what no table takes."""

    def not_loaded(self, tables: Sequence[Table]) -> list[NotLoaded]:
        """Return what the last call of `units` left waiting, and what none of these tables takes."""
        ...


@dataclass(frozen=True)
class Stream:
    """How tables of a source also arrive row by row: from a log (`granary stream`) and by webhook.

    `topics` are the log's topics by table. `address` names the setting that says where the log is, `secrets` the one
    with the secrets that webhooks are signed with, separated by commas. With the `envelope` debezium the messages are
    changes of captured tables: each lands as it changed and as it is, and there are no webhooks.
    """

    topics: Mapping[str, str]
    address: str
    secrets: str = ""
    envelope: Literal["debezium"] | None = None

    def __post_init__(self) -> None:
        """Check the stream."""
        needed = ("address",) if self.envelope else ("address", "secrets")
        validation.check(self, "stream", filled=needed)
        _check(not (self.envelope and self.secrets), "stream: changes of captured tables do not come by webhook")
        _check(bool(self.topics) and all(self.topics.values()), "stream: topics names a topic for each of some tables")


@dataclass(frozen=True)
class Capture:
    """How a source's tables are captured: `setting` names the value that holds the libpq URI of the source database.

    Every table of the source is captured, from its `location` ("schema.table"). One warehouse, one slot: another
    warehouse that captures the same database needs a slot of another name. A status raises an alarm when the slot
    holds back more than `alarm_bytes` of the source's log, or the copy is older than `alarm_age`.
    """

    setting: str
    slot: str
    publication: str
    alarm_bytes: int = 1 << 30
    alarm_age: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        """Check the names."""
        validation.check(self, "capture", filled=("setting",), positive=("alarm_bytes", "alarm_age"))
        if not SLOT.fullmatch(self.slot):
            raise ValueError(f"slot name {self.slot!r} has other characters than a-z, 0-9 and _")
        if not self.publication or "\0" in self.publication:
            raise ValueError("a publication needs a name")


@dataclass(frozen=True)
class BinlogCapture:
    """How a source's tables are captured from the binary log of MySQL or MariaDB.

    `setting` names the value that holds the URI of the source database, `mysql://user:password@host/name`. Every table
    of the source is captured, from its `location` ("database.table"). To the source we are a replica: `server_id` is
    ours alone, among its replicas and other captures. A status raises an alarm when more than `alarm_bytes` of the log
    are not stored yet, or the copy is older than `alarm_age`.
    """

    setting: str
    server_id: int
    alarm_bytes: int = 1 << 30
    alarm_age: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        """Check the number."""
        validation.check(self, "capture", filled=("setting",), positive=("alarm_bytes", "alarm_age"))
        if not 0 < self.server_id < 1 << 32:
            raise ValueError(f"server id {self.server_id} is not between 1 and {(1 << 32) - 1}")


@dataclass(frozen=True)
class Source:
    """One system: its tables and how to open it. `settings` names the values that `open_reader` is given."""

    name: str
    description: str
    owner: str
    kind: str
    settings: tuple[str, ...]
    open_reader: Callable[[Mapping[str, str]], Reader]
    tables: tuple[Table, ...]
    stream: Stream | None = None
    capture: Capture | BinlogCapture | None = None

    def __post_init__(self) -> None:
        """Check the source."""
        validation.check(self, f"source {self.name}", filled=("description", "owner", "kind", "settings"))
        _check(NAME.fullmatch(self.name) is not None, f"source name {self.name!r} is not lower snake case")
        names = [table.name for table in self.tables]
        _check(len(set(names)) == len(names) > 0, f"source {self.name} needs tables with different names")
        streamed = set(self.stream.topics) if self.stream else set()
        _check(streamed <= set(names), f"source {self.name} streams a table that is not its own")
        with_cursor = [t.name for t in self.tables if t.name in streamed and t.cursor]
        kept = [table.name for table in self.tables if self.capture and table.archive_after]
        _check(not kept, f"source {self.name} is captured, so none of its tables has archive_after: {kept}")
        _check(not with_cursor, f"source {self.name} streams tables whose watermark is a cursor: {with_cursor}")
        if self.stream and self.stream.envelope:
            _check(self.capture is None, f"source {self.name} is captured in two ways")
            _check(streamed == set(names), f"source {self.name} needs a topic for each of its tables")
            keyless = [t.name for t in self.tables if not t.key or t.disposition != "merge"]
            _check(not keyless, f"source {self.name}: captured tables have a key and the disposition merge: {keyless}")

    @property
    def is_captured(self) -> bool:
        """Return whether each table lands twice, as it changed and as it is: from a database's log, or by envelopes."""
        return self.capture is not None or (self.stream is not None and bool(self.stream.envelope))

    def table(self, name: str) -> Table:
        """Return a table by name.

        Raises:
            KeyError: the source has no such table.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)

    def reader(self, settings: Settings) -> Reader:
        """Open the system with the settings of this machine.

        Raises:
            GranaryError: one of its settings is missing, or what it is opened with is wrong.
        """
        values = {name: setting(settings, name) for name in self.settings}
        try:
            reader = self.open_reader(values)
            _check(hasattr(reader, "units"), f"open_reader returns no reader, but {type(reader).__name__}")
            if isinstance(reader, KeepsSecrets):
                reader.hide(tuple(values.values()))
            foreign = {*getattr(reader, "options", ())} - {table.name for table in self.tables}
            _check(not foreign, f"options names {', '.join(sorted(foreign))}, and it has no such table")
            return reader
        except GranaryError:
            raise
        except Exception as error:  # whatever a module does
            unnamed = isinstance(error, KeyError)
            words = f"it does not name {error} among its settings" if unnamed else validation.in_words(error)
            for value in filter(None, values.values()):  # they may be secrets
                words = words.replace(value, "…")
            where = f"ingestion/{self.name}.py"
            raise GranaryError(f"source {self.name} cannot be opened: {words}", where, "correct its module") from None


def divides(part: timedelta, whole: timedelta) -> bool:
    """Return whether a span of whole minutes, or of whole hours in a day, goes into another one without a rest."""
    unit = MINUTE if whole == HOUR else HOUR
    return unit <= part <= whole and not part % unit and not whole % part


def _check_type(kind: pa.DataType, label: str) -> None:
    try:
        arrow_type(sql_type(kind))
    except (GranaryError, ValueError):
        raise ValueError(
            f"{label}: no raw column can hold {kind}; there are int16, int32, int64, float32, float64, bool_, date32,"
            " timestamp('us') with or without tz, string, binary, and decimals"
        ) from None


def _check_subject(column: Column) -> None:
    """Refuse a data subject that is not declared, or whose keys the column cannot hold."""
    if column.subject is None:
        return
    try:
        subject = subjects.named(column.subject)
    except ValueError as error:
        raise ValueError(f"column {column.name}: {error}") from None
    _check(
        column.personal in ("identifier", "pseudonym"),
        f"column {column.name} has a subject, so it tells persons apart: personal is identifier or pseudonym",
    )
    _check(subject.fits(column.type), f"column {column.name}: {subject.rule}, and {column.type} holds none")


def _check_bound(bound: Bound | None, kind: pa.DataType, label: str) -> None:
    """Refuse a bound that values of the type cannot be compared with."""
    t = pa.types
    if bound is None:
        return
    if t.is_date(kind):
        day = isinstance(bound, date) and not isinstance(bound, datetime)
        _check(day, f"{label} is a date: write date(2026, 1, 1)")
    elif t.is_timestamp(kind):
        zoned = "datetime(2026, 1, 1, tzinfo=timezone.utc)" if kind.tz else "datetime(2026, 1, 1)"
        fits = isinstance(bound, datetime) and (bound.tzinfo is None) == (kind.tz is None)
        _check(fits, f"{label} is an instant{'' if kind.tz else ' without a zone'}: write {zoned}")
    elif t.is_string(kind) or t.is_binary(kind):
        _check(isinstance(bound, int) and bound >= 0, f"{label} is a length, a whole number from 0")
    else:
        _check(not t.is_boolean(kind), f"{label}: truth values have no bounds")
        finite = isinstance(bound, (int, float, Decimal)) and math.isfinite(bound)
        _check(finite, f"{label} is a number, and not {bound!r}")


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)
