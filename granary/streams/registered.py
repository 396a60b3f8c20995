"""Messages in the wire format of a schema registry, whatever kind of schema they are written with.

Wire format: a zero byte, the id of the writer's schema in four bytes (big endian), then what the kind of schema has
(https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format). Each schema is
compared with the contract before its first message counts; whether we can read what was written with it,
`compatibility` says, to which every kind of schema is told as the Avro record that says the same.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

from granary.load.contract import ContractBrokenError
from granary.sources.units import Rejected
from granary.streams.compatibility import incompatibilities
from granary.streams.decoding import UnfitError, checked, payload
from granary.streams.log import Decoded
from granary.streams.record_columns import columns, types_of
from granary.streams.registry import KINDS, UnknownSchemaError
from granary.warehouse.records import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from granary.sources.spec import Table
    from granary.streams.log import Message
    from granary.streams.registry import Kind, Registry, Schema

MAGIC = 0
HEADER = struct.Struct(">bI")

Writer = tuple[int, tuple[int, ...]]
"""What a message says that it was written with: the id of a schema, and the place of its type in there."""


@dataclass(frozen=True)
class Written:
    """A schema that messages are written with.

    `read` makes a record of what follows on the header, or raises UnfitError. `described` is the Avro record that
    says the same as the schema; `problems` are why the contract cannot read it.
    """

    read: Callable[[memoryview], dict[str, Any]]
    described: Mapping[str, Any]
    problems: tuple[Change, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """Return the types of the fields by their names."""
        return {field["name"]: field["type"] for field in self.described.get("fields", ())}


class RegistryDecoder(ABC):
    """Reads messages of one kind of schema; each schema is checked against the contract before its first message."""

    kind: ClassVar[Kind]

    def __init__(self, table: Table, max_bytes: int, registry: Registry, *, judged: bool = True) -> None:
        """Decode for this contract with the schemas of this registry; without `judged`, no schema is compared."""
        self.table, self.max_bytes, self.registry, self.judged = table, max_bytes, registry, judged
        self._known: dict[Writer, Written] = {}
        self._unusable: dict[Writer, str] = {}

    # -- what each kind has of its own -----------------------------------------------------------------------

    @abstractmethod
    def compiled(self, schema: Schema, place: tuple[int, ...]) -> Written:
        """Return how what was written with a schema, or with the type at a place in it, is read.

        Raises:
            UnknownSchemaError: the schema is none of this kind.
        """

    def place(self, body: memoryview) -> tuple[tuple[int, ...], int]:
        """Return the place of the message's type in the schema, and how many bytes say so.

        Raises:
            UnfitError: they say nothing.
        """
        del body
        return (), 0

    def opinion(self, subject: str) -> str | None:
        """Return what the registry has against the contract, if it can be asked."""
        del subject
        return None

    def arrow(
        self, written: Written | None, rows: Sequence[dict[str, Any]]
    ) -> tuple[pa.RecordBatch, dict[int, tuple[str, str]]]:
        """Return rows as Arrow without those that do not fit, and why these do not: index -> (column, reason)."""
        return columns(types_of(self.table, written.fields if written else {}), rows)

    # -- what they have in common ----------------------------------------------------------------------------

    def check(self, topic: str) -> list[str]:
        """Compare the latest version of the topic's schema with the contract, and ask the registry for its own opinion.

        The subject is <topic>-value, as the registry's clients name it unless they are told otherwise.

        Raises:
            ContractBrokenError: the contract cannot read it, and wants to stop then.
            RegistryUnavailableError: the registry does not answer.
        """
        subject = f"{topic}-value"
        latest = self.registry.version(subject)
        if latest is None:
            return []
        where = f"{subject} version {latest.version}"
        try:
            written = self._compiled(latest.schema, self.first(latest.schema))
        except UnknownSchemaError as error:
            return [f"{where} cannot be read: {error.what}"]
        problems = written.problems
        if problems and self._stops(problems):
            raise ContractBrokenError(problems[0].column, problems[0].change, problems[0].detail, where)
        found = [f"{where} cannot be read: column {p.column} is {p.change}: {p.detail}" for p in problems]
        if not problems and self.judged and (words := self.opinion(subject)) is not None:
            found.append(f"{where}: the registry finds the contract incompatible: {words[:300]}")
        if (level := self.registry.level(subject)) == "NONE":
            found.append(f"{subject}: its compatibility is {level}, so any version may be registered")
        return found

    def described(self, topic: str) -> Mapping[str, Any]:
        """Return the latest version of a topic's schema as the Avro record that says the same.

        Raises:
            UnknownSchemaError: there is none, or it is none of this kind, or no record.
            RegistryUnavailableError: the registry does not answer.
        """
        latest = self.registry.version(f"{topic}-value")
        if latest is None:
            raise UnknownSchemaError("the registry has no schema of the topic", topic, f"register {topic}-value")
        try:
            found = self._compiled(latest.schema, self.first(latest.schema)).described
        except UnknownSchemaError as error:
            raise UnknownSchemaError(error.what, f"{topic}-value version {latest.version}", "correct it") from None
        if not found.get("fields"):
            where = f"{topic}-value version {latest.version}"
            raise UnknownSchemaError("its schema has no fields", where, "register one of an object with fields")
        return found

    def first(self, schema: Schema) -> tuple[int, ...]:
        """Return the place of the type that messages of a schema most likely have."""
        del schema
        return ()

    def decode(self, topic: str, messages: Sequence[Message]) -> list[Decoded]:
        """Return the messages' rows, in runs of one schema; an unreadable message is rejected alone.

        Raises:
            ContractBrokenError: a schema cannot be read, and the contract wants to stop then.
            RegistryUnavailableError: a schema is not known yet and cannot be asked for now.
        """
        runs = groupby(messages, key=lambda message: self._writer(message.value))
        return [self._run(topic, writer, list(run)) for writer, run in runs]

    def record(self, topic: str, value: bytes) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Return one message as a record, and the Avro record that says the same as its schema.

        Raises:
            UnfitError: it is no message of its schema, or has none.
            RegistryUnavailableError: its schema is not known yet and cannot be asked for now.
        """
        writer = self._writer(checked(value, self.max_bytes))
        if writer is None:
            raise UnfitError(f"is no {KINDS[self.kind]} in the wire format of a schema registry")
        try:
            written = self._written(topic, writer)
        except UnknownSchemaError as error:
            raise UnfitError(f"cannot be read: {error.what}") from None
        return written.read(self._body(value)), written.described

    def _stops(self, problems: Sequence[Change]) -> bool:
        return self.table.retyped == "refuse" or any(problem.change == "added" for problem in problems)

    def _writer(self, value: bytes | None) -> Writer | None:
        """Return what a message names, or None if it is not in the wire format."""
        if value is None or len(value) < HEADER.size or value[0] != MAGIC:
            return None
        try:
            place, _ = self.place(memoryview(value)[HEADER.size :])
        except UnfitError:
            return None
        return int(HEADER.unpack_from(value)[1]), place

    def _body(self, value: bytes) -> memoryview:
        body = memoryview(value)[HEADER.size :]
        return body[self.place(body)[1] :]

    def _run(self, topic: str, writer: Writer | None, messages: Sequence[Message]) -> Decoded:
        trouble, written = f"is no {KINDS[self.kind]} in the wire format of a schema registry", None
        if writer is not None:
            try:
                written = self._written(topic, writer)
                trouble = "; ".join(
                    f"is written with schema {writer[0]}, whose {p.column} is {p.change}" for p in written.problems[:1]
                )
            except UnknownSchemaError as error:
                trouble = f"cannot be read: {error.what}"
        rows: list[dict[str, Any]] = []
        places: list[int] = []
        rejected: dict[int, Rejected] = {}
        for index, message in enumerate(messages):
            try:
                value = checked(message.value, self.max_bytes)
                if written is None or trouble:
                    raise UnfitError(trouble)
                rows.append(written.read(self._body(value)))
                places.append(index)
            except UnfitError as error:
                rejected[index] = Rejected("", str(error), payload(message.value), message.line)
        batch, bad = self.arrow(written if not trouble else None, rows)
        for place, (column, why) in bad.items():
            at = places[place]
            rejected[at] = Rejected(column, why, payload(messages[at].value), messages[at].line)
        return Decoded(batch, tuple(sorted(rejected.items())), written.problems if written else ())

    def _written(self, topic: str, writer: Writer) -> Written:
        """Return a schema, checked against the contract when it is new."""
        if writer not in self._known:
            schema_id, place = writer
            schema = self.registry.schema(schema_id)
            if writer in self._unusable:
                raise UnknownSchemaError(self._unusable[writer])
            try:
                written = self._compiled(schema, place, f"schema {schema_id}", topic)
            except UnknownSchemaError as error:
                self._unusable[writer] = error.what  # it may take long to find out, and never changes
                raise
            if written.problems and self._stops(written.problems):
                problem = written.problems[0]
                raise ContractBrokenError(problem.column, problem.change, problem.detail, topic)
            self._known[writer] = written
        return self._known[writer]

    def _compiled(self, schema: Schema, place: tuple[int, ...], where: str = "it", topic: str = "") -> Written:
        """Return a schema, with why the contract cannot read it."""
        if schema.kind != self.kind:
            raise UnknownSchemaError(f"{where} is {KINDS[schema.kind]}, not {KINDS[self.kind]}")
        try:
            written = self.compiled(schema, place)
        except UnknownSchemaError as error:
            raise UnknownSchemaError(error.what if where == "it" else f"{where}: {error.what}") from None
        if not self.judged:
            return written
        of = f"{where} of {topic}: " if topic else ""
        problems = tuple(
            Change(change.column, change.change, f"{of}{change.detail}")
            for change in incompatibilities(self.table, written.described)
        )
        return Written(written.read, written.described, problems)
