"""All kinds of sources, each with what it guarantees, as the code of the kind says it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from granary.cdc.mysql.capturing import BinlogCapturing
from granary.cdc.postgres.capturing import PostgresCapturing
from granary.readers.database import DatabaseReader
from granary.readers.files import FileReader
from granary.readers.graphql import GraphqlReader
from granary.readers.rest import RestReader
from granary.readers.singer import DLT_SOURCE, SINGER
from granary.readers.tables import DeltaReader, IcebergReader
from granary.sources.config import find
from granary.sources.spec import BinlogCapture
from granary.streams.kinds import DEBEZIUM, WEBHOOKS
from granary.streams.kinds import KINDS as LOGS
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.sources.guarantees import Guarantees
    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings

KINDS: tuple[Guarantees, ...] = (
    FileReader.guarantees,
    DatabaseReader.guarantees,
    RestReader.guarantees,
    GraphqlReader.guarantees,
    SINGER,
    DLT_SOURCE,
    IcebergReader.guarantees,
    DeltaReader.guarantees,
    PostgresCapturing.guarantees,
    BinlogCapturing.guarantees,
    *(log.guarantees for log in LOGS.values()),
    DEBEZIUM,
    WEBHOOKS,
)


def kinds_of(source: Source, settings: Settings) -> list[Guarantees]:
    """Return the kinds by which a source can be read with the settings of this machine; nothing is connected to."""
    found = []
    if isinstance(source.capture, BinlogCapture):
        found.append(BinlogCapturing.guarantees)
    elif source.capture:
        found.append(PostgresCapturing.guarantees)
    else:
        try:
            reader = source.reader(settings)
        except GranaryError:
            reader = None
        found += [one] if (one := getattr(reader, "guarantees", None)) else []
    if source.stream:
        address = _value(settings, source.stream.address)
        known = [LOGS[scheme].guarantees] if (scheme := address.partition("://")[0]) in LOGS else []
        found += [DEBEZIUM] if known and source.stream.envelope else known
        found += [WEBHOOKS] if _value(settings, source.stream.secrets) else []
    return found


def markdown() -> str:
    """Return all kinds as a table of Markdown, with links from docs/engine/sources."""
    lines = ["| kind | by | exactly once? | deletes seen? | in order? | lag shown? |", "|---|---|---|---|---|---|"]
    for one in KINDS:
        cells = (f"[{one.kind}]({one.page}.md), `{one.declared}`", f"`{one.command}`", *answers(one))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def answers(one: Guarantees) -> tuple[str, str, str, str]:
    """Return what a kind says to: exactly once? deletes seen? in order? lag shown?"""
    return one.exactly_once, one.deletes, one.order, one.lag


def brief(answer: str) -> str:
    """Return an answer without its condition: yes, no, or in part."""
    return re.split("[:,]", answer)[0]


def _value(settings: Settings, name: str) -> str:
    try:
        return find(settings, name) or ""
    except GranaryError:
        return ""
