"""`granary doctor SOURCE`: address, rights, clock and server settings of one source, whatever its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.cdc import examination as of_capture
from granary.sources.attempt import attempts, clock, of_error
from granary.sources.capture import CapturedReader
from granary.sources.config import find
from granary.sources.discovery import BROKEN, SOURCES
from granary.sources.spec import Examined
from granary.streams.log import TellsTime
from granary.streams.opening import open_stream
from granary.streams.signatures import secrets_of
from granary.warehouse.errors import GranaryError, unknown
from granary.warehouse.findings import Finding, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.sources.spec import Source, Stream
    from granary.streams.log import Log
    from granary.warehouse.settings import Settings


def examine(settings: Settings, name: str) -> Report:
    """Look at one source by every way in which it can be read; nothing is loaded.

    Raises:
        GranaryError: there is no such source, its module cannot be used, or the warehouse does not answer.
    """
    if name in BROKEN:
        raise BROKEN[name]
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    source = SOURCES[name]
    left_out: list[str] = []
    found = list(of_capture.examine(settings, source) if source.capture else _reader(settings, source))
    if source.stream:
        found += _stream(settings, source, source.stream, left_out)
    return Report.of(found, left_out)


def _reader(settings: Settings, source: Source) -> Iterator[Finding]:
    try:
        reader = source.reader(settings)
        if isinstance(reader, CapturedReader):  # what comes by a log only
            return
        yield from reader.examine(source.tables) if isinstance(reader, Examined) else attempts(reader, source.tables)
    except GranaryError as error:
        yield of_error(error, source.name)


def _clock(log: Log) -> float | None:
    """Return what time it is for a log's server, None if it does not tell."""
    if not isinstance(log, TellsTime):
        return None
    try:
        return log.clock()
    finally:
        log.close()


def _stream(settings: Settings, source: Source, stream: Stream, left_out: list[str]) -> Iterator[Finding]:
    try:
        if find(settings, stream.address):
            reading = open_stream(settings, source.name)
            for words in reading.check():
                yield Finding(words, source.name, "", "see `granary guide sources/streams`", "hint")
            reading.look()
            now = _clock(reading.log)
            if now is None:
                left_out.append(f"the log's clock: {reading.log.kind} does not tell it")
            else:
                yield from clock(source.name, now)
        else:
            left_out.append(f"the log: {stream.address} is not set")
        if secrets := find(settings, stream.secrets):
            secrets_of(secrets, stream.secrets)
        else:
            left_out.append(f"webhooks: {stream.secrets} is not set")
    except GranaryError as error:
        yield of_error(error, source.name)
