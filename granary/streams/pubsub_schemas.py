"""Schemas of Pub/Sub topics, as the decoders ask for them (https://cloud.google.com/pubsub/docs/schemas).

A message of a topic with a schema says in its attributes by which revision it was checked, and whether it is written
in the binary or JSON encoding of Avro or Protobuf. Either becomes what the decoders read: Confluent's wire format, with
a number of ours for the revision.
"""

from __future__ import annotations

from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

from granary.streams import proto_source
from granary.streams.registered import HEADER, MAGIC
from granary.streams.registry import Kind, Registry, RegistryUnavailableError, Schema, UnknownSchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from granary.streams.registry import Version

KINDS: dict[str, Kind] = {"AVRO": "AVRO", "PROTOCOL_BUFFER": "PROTOBUF"}
FIRST_TYPE = b"\0"
"""The path of indexes of the first message type of a file, in Confluent's wire format."""
NAME, REVISION, ENCODING = (f"googclient_schema{what}" for what in ("name", "revisionid", "encoding"))


class PubSubSchemas(Registry):
    """The revisions of schemas that messages have named, as a registry; each is asked for once."""

    def __init__(self, get: Callable[[str], Any], gone: type[Exception], away: type[Exception]) -> None:
        """Ask by `get`, with a revision's full name; it fails with `gone` where there is none, else with `away`."""
        self._get, self._gone, self._away = get, gone, away
        self.url = "Pub/Sub"
        self._names: list[str] = []
        self._schemas: dict[int, Schema] = {}

    def schema(self, schema_id: int) -> Schema:
        """Return the schema with this number of ours.

        Raises:
            UnknownSchemaError: it is gone, or neither Avro nor Protobuf.
            RegistryUnavailableError: Pub/Sub does not answer, or denies access to its schemas.
        """
        if schema_id not in self._schemas:
            name = self._names[schema_id] if schema_id < len(self._names) else ""
            try:
                found = self._get(name)
            except (self._gone, ValueError):
                raise UnknownSchemaError("Pub/Sub has no such schema any more", name) from None
            except self._away as error:
                raise RegistryUnavailableError(
                    f"Pub/Sub does not give a schema: {type(error).__name__}", name, "may the role read schemas?"
                ) from None
            if found.type_.name not in KINDS:
                raise UnknownSchemaError(f"the schema is {found.type_.name}, neither Avro nor Protobuf", name)
            self._schemas[schema_id] = Schema(KINDS[found.type_.name], found.definition)
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
        try:
            schema = self.schema(number)
            written = (_avro if schema.kind == "AVRO" else _protobuf)(schema, data, attributes.get(ENCODING) == "JSON")
        except RegistryUnavailableError:
            raise
        except Exception:  # whatever it chokes on: the decoder refuses it
            return data
        return HEADER.pack(MAGIC, number) + written


def _avro(schema: Schema, data: bytes, is_json: bool) -> bytes:
    """Return a message in Avro's binary encoding."""
    if not is_json:
        return data
    import fastavro  # noqa: PLC0415 - an extra

    parsed = fastavro.parse_schema(schema.parsed()[-1])
    (row,) = fastavro.json_reader(StringIO(data.decode()), parsed)
    written = BytesIO()
    fastavro.schemaless_writer(written, parsed, row)
    return written.getvalue()


def _protobuf(schema: Schema, data: bytes, is_json: bool) -> bytes:
    """Return a message in Protobuf's binary encoding, as the first type of its file: Pub/Sub allows no second one."""
    if is_json:
        from google.protobuf.json_format import Parse  # noqa: PLC0415 - an extra
        from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

        (kind, *_) = proto_source.compiled(schema).message_types_by_name.values()
        data = Parse(data, GetMessageClass(kind)()).SerializeToString()
    return FIRST_TYPE + data
