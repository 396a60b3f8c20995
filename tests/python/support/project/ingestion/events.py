"""The doors: one JSON object whenever a card opens one; by Kafka or Kinesis, by webhook, or in a file per day."""

from datetime import datetime, timedelta, timezone

import pyarrow as pa

from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Stream, Table

FIRST, LAST = datetime(2016, 11, 1, tzinfo=timezone.utc), datetime(2018, 3, 1, tzinfo=timezone.utc)

CARD_SCANS = Table(
    name="card_scans",
    description="A card opened a door. Immutable; the event id is the sender's.",
    location="card_scans/*.jsonl",
    disposition="append",
    key=("event_id",),
    partition="day",
    freshness=timedelta(days=9),
    columns=(
        Column("event_id", pa.string(), "The sender's id of the event.", nullable=False, maximum=200),
        Column("type", pa.string(), "Kind of event.", nullable=False, allowed=("card_scanned",)),
        Column("occurred_at", pa.timestamp("us", tz="UTC"), "When.", nullable=False, minimum=FIRST, maximum=LAST),
        Column("member_id", pa.int64(), "Whose card.", nullable=False, personal="pseudonym"),
        Column("card_id", pa.int64(), "Card.", nullable=False),
        Column("door_id", pa.int64(), "Door.", nullable=False),
    ),
)

SOURCE = Source(
    name="events",
    description="The log of the doors.",
    owner="security",
    kind="json",
    settings=("GRANARY_EVENTS_LANDING",),
    open_reader=lambda settings: FileReader(settings["GRANARY_EVENTS_LANDING"]),
    tables=(CARD_SCANS,),
    stream=Stream(
        topics={"card_scans": "card_scans"},
        address="GRANARY_EVENTS_STREAM",
        secrets="GRANARY_EVENTS_WEBHOOK_SECRETS",
    ),
)
