"""Avro messages of a schema registry: behind the header a record, and nothing else."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from granary.streams.compatibility import contract_schema
from granary.streams.decoding import UnfitError
from granary.streams.registered import RegistryDecoder, Written
from granary.streams.registry import UnknownSchemaError
from granary.warehouse.errors import missing_package

if TYPE_CHECKING:
    from granary.sources.spec import Table
    from granary.streams.registry import Registry, Schema


class AvroDecoder(RegistryDecoder):
    """Reads records by the schema that they were written with."""

    kind = "AVRO"

    def __init__(self, table: Table, max_bytes: int, registry: Registry, *, judged: bool = True) -> None:
        """Decode for this contract with the schemas of this registry.

        Raises:
            GranaryError: fastavro is not installed.
        """
        try:
            import fastavro  # noqa: PLC0415 - only Avro needs it
        except ImportError:
            raise missing_package("Avro", "fastavro", "streams") from None
        super().__init__(table, max_bytes, registry, judged=judged)
        self._parse, self._read = fastavro.parse_schema, fastavro.schemaless_reader

    def opinion(self, subject: str) -> str | None:
        """Return what the registry has against the contract as the schema of a reader."""
        agrees, words = self.registry.can_read(subject, contract_schema(self.table))
        return None if agrees else "; ".join(words)

    def compiled(self, schema: Schema, place: tuple[int, ...]) -> Written:
        """Return how records of a schema are read."""
        del place
        *others, last = schema.parsed()
        try:
            named: dict[str, Any] = {}
            for other in others:
                self._parse(other, named_schemas=named)
            parsed = self._parse(last, named_schemas=named)
            whole = self._parse(last, named_schemas=dict(named), expand=True)  # types that are named again, written out
        except Exception as error:
            raise UnknownSchemaError(f"it is not an Avro schema: {type(error).__name__}") from None
        return Written(lambda body: self._row(parsed, body), whole if isinstance(whole, dict) else {})

    def _row(self, schema: Any, body: memoryview) -> dict[str, Any]:
        stream = BytesIO(body)
        try:
            row = self._read(stream, schema, None)
        except Exception as error:
            raise UnfitError(f"is not a record of its schema: {type(error).__name__}") from None
        if stream.read(1):
            raise UnfitError("has bytes after its record")
        if not isinstance(row, dict):
            raise UnfitError("is not a record of its schema")
        return row
