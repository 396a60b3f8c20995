"""Avro schemas of Pub/Sub topics, as the Avro decoder asks for them (https://cloud.google.com/pubsub/docs/schemas).

A message of a topic with a schema says in its attributes by which revision it was checked, and whether it is written
in Avro's binary or JSON encoding. Either becomes what the decoder reads: Confluent's wire format, with a number of ours
for the revision.
"""

from __future__ import annotations

import json
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

from granary.streams.avro import HEADER, MAGIC
from granary.streams.registry import Registry, RegistryUnavailableError, UnknownSchemaError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from granary.streams.registry import Version

NAME, REVISION, ENCODING = (f"googclient_schema{what}" for what in ("name", "revisionid", "encoding"))


class PubSubSchemas(Registry):
    """The revisions of schemas that messages have named, as a registry; each is asked for once."""

    def __init__(self, get: Callable[[str], Any], gone: type[Exception], away: type[Exception]) -> None:
        """Ask by `get`, with a revision's full name; it fails with `gone` where there is none, else with `away`."""
        try:
            import fastavro  # noqa: PLC0415 - only Avro needs it
        except ImportError:
            raise GranaryError("Avro needs the package fastavro", todo="install granary[streams]") from None
        self._avro, self._get, self._gone, self._away = fastavro, get, gone, away
        self.url = "Pub/Sub"
        self._names: list[str] = []
        self._schemas: dict[int, list[Any]] = {}

    def schema(self, schema_id: int) -> list[Any]:
        """Return the schema with this number of ours, in a list of its own.

        Raises:
            UnknownSchemaError: it is gone, or not Avro.
            RegistryUnavailableError: Pub/Sub does not answer, or denies access to its schemas.
        """
        if schema_id not in self._schemas:
            name = self._names[schema_id] if schema_id < len(self._names) else ""
            try:
                found = self._get(name)
                if found.type_.name != "AVRO":
                    raise UnknownSchemaError(f"the schema is {found.type_.name}, not Avro", name)
                self._schemas[schema_id] = [json.loads(found.definition)]
            except (self._gone, ValueError):
                raise UnknownSchemaError("Pub/Sub has no such schema any more", name) from None
            except self._away as error:
                raise RegistryUnavailableError(
                    f"Pub/Sub does not give a schema: {type(error).__name__}", name, "may the role read schemas?"
                ) from None
        return self._schemas[schema_id]

    def version(self, subject: str, version: int | str = "latest") -> Version | None:
        """Return nothing: which schema a topic has, a subscriber may not ask."""
        del subject, version
        return None

    def in_wire_format(self, data: bytes, attributes: Mapping[str, str]) -> bytes:
        """Return a message as the decoder reads it; one that names no schema, or does not fit it, as it is.

        Raises:
            RegistryUnavailableError: Pub/Sub does not answer.
        """
        if NAME not in attributes:
            return data
        name = f"{attributes[NAME]}@{attributes.get(REVISION, '')}"
        if name not in self._names:
            self._names.append(name)
        number = self._names.index(name)
        if attributes.get(ENCODING) == "JSON":
            try:
                data = self._in_binary(data, number)
            except RegistryUnavailableError:
                raise
            except Exception:  # whatever it chokes on: the decoder refuses it
                return data
        return HEADER.pack(MAGIC, number) + data

    def _in_binary(self, data: bytes, number: int) -> bytes:
        schema = self._avro.parse_schema(self.schema(number)[0])
        (row,) = self._avro.json_reader(StringIO(data.decode()), schema)
        written = BytesIO()
        self._avro.schemaless_writer(written, schema, row)
        return written.getvalue()
