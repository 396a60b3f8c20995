"""The event stream's archive: one JSON line per coupon redemption, one file per date that has any."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from demo.clock import NEW_YORK, starts_at
from demo.files import put
from demo.progress import Step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from demo.data import Data

NAMESPACE = UUID("5b0f6d1e-2a3c-4a52-9a35-7c6d0b7f4e11")
"""Event ids are made from this and the redemption's own key, so playing it back again gives the same ids."""


def event(household_id: int, coupon_upc: int, campaign_id: int, day: date) -> dict[str, object]:
    """Return one redemption as its system sends it; it knows the date only, so it is midnight."""
    return {
        "event_id": str(uuid5(NAMESPACE, f"{household_id}/{coupon_upc}/{campaign_id}/{day}")),
        "type": "coupon_redeemed",
        "occurred_at": starts_at(day).astimezone(NEW_YORK).isoformat(),
        "household_id": household_id,
        "coupon_upc": coupon_upc,
        "campaign_id": campaign_id,
    }


def prepare(data: Data, stock: Path) -> Iterator[Step]:
    """Write the files of every year into `stock`, yielding a step for each."""
    lines: dict[date, list[str]] = {}
    for row in data.read("coupon_redemptions").to_pylist():
        day = row.pop("redemption_date").date()
        lines.setdefault(day, []).append(json.dumps(event(**row, day=day), separators=(",", ":")) + "\n")
    for day in sorted(lines):
        name = f"events/coupon_redemptions/{day}.jsonl"
        put(stock / name, "".join(lines[day]).encode())
        yield Step("events", name, len(lines[day]))
