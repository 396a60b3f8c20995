"""Slots that die, and one that nobody reads: planted at a database of the warehouse's own server that is captured."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from bench.alerts_plants import MINUTE
from granary.cdc.capture import opened
from granary.sources import discovery
from granary.sources.capture import CapturedReader
from granary.sources.spec import Capture, Column, Source, Table
from granary.warehouse.connection import ensure_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.alerts_plants import Plant
    from bench.alerts_replay import Replay

OFFICE = Source(
    name="office",
    description="A table that is captured.",
    owner="office",
    kind="postgres",
    settings=(),
    open_reader=lambda _: CapturedReader(),
    tables=(
        Table(
            name="articles",
            description="What is sold.",
            location="public.articles",
            disposition="merge",
            key=("id",),
            freshness=timedelta(days=400),
            columns=(Column("id", pa.int64(), "Key.", nullable=False), Column("name", pa.string(), "Name.")),
        ),
    ),
    capture=Capture(setting="GRANARY_OFFICE_URL", slot="granary_office", publication="granary_office"),
)


def captured(*broken: str) -> Plant:
    """Return the plant that captures a table of another database, and then does something to its slot."""

    @contextmanager
    def plant(replay: Replay) -> Iterator[None]:
        settings = replay.settings
        name = ensure_office(replay)
        discovery._found["office"] = OFFICE
        os.environ["GRANARY_OFFICE_URL"] = settings.uri(name)
        try:
            with opened(settings, OFFICE) as capturing:
                capturing.once(anew=True)
            replay.move(replay.at - MINUTE)
            for statement in broken:
                replay.sql(statement, database=name)
            yield
        finally:
            discovery._found.pop("office")
            os.environ.pop("GRANARY_OFFICE_URL")
            replay.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
            replay.sql("alter system reset max_slot_wal_keep_size")
            replay.sql("select pg_reload_conf()")

    return plant


def ensure_office(replay: Replay) -> str:
    """Return the database of the captured table, which is made if need be."""
    name = f"{replay.settings.database}_office"
    ensure_database(replay.settings, name)
    for statement in (
        "create table if not exists articles (id bigint primary key, name text)",
        "insert into articles values (1, 'one') on conflict do nothing",
        "drop publication if exists granary_office",
        "create publication granary_office for table articles",
    ):
        replay.sql(statement, database=name)
    return name


@contextmanager
def forgotten_slot(replay: Replay) -> Iterator[None]:
    """Have a slot that nobody reads hold back a gigabyte of the warehouse's log."""
    replay.sql("select pg_create_physical_replication_slot('standby', true)")
    for _ in range(66):
        replay.sql("select pg_logical_emit_message(false, 'bench', 'filler')")
        replay.sql("select pg_switch_wal()")
    yield
    replay.sql("select pg_drop_replication_slot('standby')")
    replay.sql("checkpoint")
