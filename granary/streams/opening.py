"""From a source's name to a stream that can run: its settings, its log, and how its messages are decoded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from granary.sources.config import setting
from granary.sources.discovery import BROKEN, SOURCES
from granary.streams.address import Address, parse
from granary.streams.debezium.landing import CapturedLanding
from granary.streams.decoding import JsonDecoder
from granary.streams.kinds import KINDS
from granary.streams.loop import Counts, Limits, StreamLoop
from granary.warehouse.errors import GranaryError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from granary.sources.spec import Source, Stream, Table
    from granary.streams.log import Decoder, Lag, Log
    from granary.streams.registered import RegistryDecoder
    from granary.streams.registry import Registry
    from granary.warehouse.settings import Settings


def streaming(name: str) -> tuple[Source, Stream]:
    """Return a source that streams.

    Raises:
        GranaryError: there is no such source, or it does not stream; the error names those that do.
    """
    if name in BROKEN:
        raise BROKEN[name]
    found = SOURCES.get(name)
    if found is None or found.stream is None:
        raise unknown("stream", name, (source.name for source in SOURCES.values() if source.stream))
    return found, found.stream


def open_stream(
    settings: Settings,
    name: str,
    limits: Limits | None = None,
    *,
    run_id: str = "",
    report: Callable[[Counts, Sequence[Lag]], None] = lambda counts, lags: None,
) -> StreamLoop:
    """Return the stream of a source, ready to run.

    Raises:
        GranaryError: the source does not stream, its address is wrong, or a package is missing.
    """
    source, stream = streaming(name)
    address = parse(setting(settings, stream.address), stream.address)
    tables = {topic: source.table(table) for table, topic in stream.topics.items()}
    log = open_log(address, list(tables), address.group or f"granary.{name}")
    schemas: Registry | None = getattr(log, "schemas", None)
    decoders: Mapping[str, Decoder]
    captured = None
    if stream.envelope:
        decoders = envelopes = _envelopes(tables, address, stream.address)
        captured = CapturedLanding(source, tables, envelopes, log.kind, address.max_bytes)
    else:
        decoders = {topic: decoder_of(table, address, schemas) for topic, table in tables.items()}
    return StreamLoop(
        settings=settings,
        source=source,
        tables=tables,
        log=log,
        decoders=decoders,
        captured=captured,
        limits=limits or Limits(),
        run_id=run_id,
        report=report,
    )


def _envelopes(tables: Mapping[str, Table], address: Address, name: str) -> dict[str, RegistryDecoder]:
    """Return how the envelopes of topics are read from a registry; none where they are JSON."""
    if address.format == "protobuf":
        raise GranaryError(
            f"{name} wants Debezium's envelopes in Protobuf, which are not read here",
            todo="have them written as json, avro or jsonschema",
        )
    if address.format == "json":
        return {}
    return {topic: registered(table, address, judged=False) for topic, table in tables.items()}


def open_log(address: Address, topics: Sequence[str], group: str) -> Log:
    """Return the log that an address names; each kind needs a package that may be missing, so it is imported here."""
    kind = KINDS[address.kind]
    module, _, name = kind.opens.partition(":")
    made: Log = getattr(import_module(module), name)(address, topics, *([group] if kind.grouped else []))
    return made


def decoder_of(table: Table, address: Address, schemas: Registry | None = None) -> Decoder:
    """Return how the messages of a topic become rows of its table; `schemas` are those of the log itself, if any."""
    if address.format == "json":
        return JsonDecoder(table, address.max_bytes)
    return registered(table, address, schemas)


def registered(
    table: Table, address: Address, schemas: Registry | None = None, *, judged: bool = True
) -> RegistryDecoder:
    """Return how messages of a registry become rows; without `judged`, no schema is compared with the contract."""
    from granary.streams.registry import Registry  # noqa: PLC0415

    # Each needs packages that may be missing.
    known = schemas or Registry(address.registry)
    if address.format == "protobuf":
        from granary.streams.protobuf import ProtobufDecoder  # noqa: PLC0415

        return ProtobufDecoder(table, address.max_bytes, known, judged=judged)
    if address.format == "jsonschema":
        from granary.streams.json_schema import JsonSchemaDecoder  # noqa: PLC0415

        return JsonSchemaDecoder(table, address.max_bytes, known, judged=judged)
    from granary.streams.avro import AvroDecoder  # noqa: PLC0415

    return AvroDecoder(table, address.max_bytes, known, judged=judged)
