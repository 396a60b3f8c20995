"""Events: coupon redemptions, one JSON object each: by Kafka or Kinesis, by webhook, or in a file per business day.

Whichever channels an event comes by, and in whatever order, it lands once: by its id.
"""

from datetime import datetime, timedelta, timezone

import pyarrow as pa

from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Stream, Table

FIRST = datetime(2016, 11, 1, 4, tzinfo=timezone.utc)
LAST = datetime(2018, 3, 1, 4, 59, 59, 999999, tzinfo=timezone.utc)
"""The calendar of the marts (`calendar_start` and `calendar_end` in dbt_project.yml) as New York days."""

COUPON_REDEMPTIONS = Table(
    name="coupon_redemptions",
    description="One row per redeemed coupon (2,102 on 263 days of 2017).",
    location="coupon_redemptions/*.jsonl",
    disposition="append",
    key=("event_id",),
    partition="day",
    freshness=timedelta(days=11),
    columns=(
        Column("event_id", pa.string(), "The sender's id of the event, a UUID.", nullable=False, maximum=200),
        Column("type", pa.string(), "Kind of event: coupon_redeemed.", nullable=False, allowed=("coupon_redeemed",)),
        Column(
            "occurred_at",
            pa.timestamp("us", tz="UTC"),
            "The day of the redemption, as midnight in New York.",
            nullable=False,
            minimum=FIRST,
            maximum=LAST,
        ),
        Column(
            "household_id",
            pa.int64(),
            "The household that redeemed.",
            nullable=False,
            personal="pseudonym",
            subject="household",
        ),
        Column("coupon_upc", pa.int64(), "The coupon.", nullable=False),
        Column("campaign_id", pa.int64(), "The campaign that the coupon belongs to.", nullable=False),
    ),
)

SOURCE = Source(
    name="events",
    description=(
        "The event log: immutable events, by Kafka or Kinesis, by webhook, or in one file of JSON lines per "
        "business day. An event that comes again, by whichever channel, is the same row."
    ),
    owner="customer-data",
    kind="json",
    settings=("GRANARY_EVENTS_LANDING",),
    open_reader=lambda settings: FileReader(settings["GRANARY_EVENTS_LANDING"]),
    tables=(COUPON_REDEMPTIONS,),
    stream=Stream(
        topics={"coupon_redemptions": "coupon_redemptions"},
        address="GRANARY_EVENTS_STREAM",
        secrets="GRANARY_EVENTS_WEBHOOK_SECRETS",
    ),
)
