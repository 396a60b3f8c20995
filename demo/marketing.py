"""What the marketing system's API answers: campaigns, whom they reached and their coupons, in pages of JSON.

It answers by the clock: a campaign is unknown until it has been prepared, a week before it begins.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from demo import clock
from demo.rate import Limit, Meter
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from demo.data import Data

DEFAULT_PAGE, LARGEST_PAGE = 1000, 5000
_PREPARED_AHEAD = timedelta(days=7)
_PREPARED_AT = timedelta(hours=14)
_PAGING = frozenset({"page_size", "page_token"})
_PART = re.compile(r"/v1/campaigns/([0-9]{1,9})/(recipients|coupons)")


@dataclass(frozen=True)
class Answer:
    """A response before it meets HTTP."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):  # noqa: N818 - a request that is answered, not a failure of the server
    """A request that is answered with an error."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        """Keep the status, the reason and any headers (`Retry_After` means Retry-After)."""
        super().__init__(reason)
        self.answer = refuse(status, reason, **headers)


def refuse(status: int, reason: str, **headers: str) -> Answer:
    """Return an error as the API words it."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status, json.dumps({"error": reason}).encode(), named)


def prepared_at(start_date: date) -> datetime:
    """Return when a campaign is entered into the system: seven days before it begins, at 14:00 UTC."""
    return datetime.combine(start_date, datetime.min.time(), timezone.utc) - _PREPARED_AHEAD + _PREPARED_AT


@dataclass(frozen=True)
class Campaign:
    """One campaign, the instant at which the API begins to show it, and its JSON."""

    updated_at: datetime
    campaign_id: int
    text: bytes


class Marketing:
    """The API without its server. Rows are turned into JSON once; a page joins ready pieces.

    Args:
        data: where the campaigns come from.
        today: reads the retailer's clock; asked at each request.
        key: the one API key.
        limit: how many requests the key may make.
    """

    def __init__(self, data: Data, today: Callable[[], date | None], key: str, limit: Limit) -> None:
        self._data, self._today, self._key = data, today, key.encode()
        self._meter = Meter(limit)

    def answer(self, target: str, key: str | None) -> Answer:
        """Answer a GET for `target` (path and query) with the value of its X-Api-Key header."""
        try:
            if not hmac.compare_digest((key or "").encode(), self._key):
                raise Refusal(401, "the header X-Api-Key is missing or wrong")
            if (wait := self._meter.seconds_to_wait()) > 0:
                raise Refusal(429, f"too many requests, try again in {wait} s", Retry_After=str(wait))
            return Answer(200, self._page(target))
        except Refusal as refusal:
            return refusal.answer
        except GranaryError as error:
            return refuse(500, error.what)

    def _page(self, target: str) -> bytes:
        parts = urlsplit(target)
        part = _PART.fullmatch(parts.path)
        if part is None and parts.path != "/v1/campaigns":
            raise Refusal(404, f"there is no {parts.path}")
        query = _query(parts.query, _PAGING if part else _PAGING | {"updated_since"})
        shown = self._shown()
        if part is None:
            since = _instant(query.get("updated_since"))
            rows: Sequence[bytes] = [campaign.text for campaign in shown if campaign.updated_at >= since]
        elif int(part[1]) in {campaign.campaign_id for campaign in shown}:
            rows = self._parts[part[2]].get(int(part[1]), [])
        else:
            raise Refusal(404, f"there is no campaign {part[1]}")
        size = _page_size(query.get("page_size"))
        # A token is good only for the list that it was given for; a list grows at its end, so an offset stays
        # right when the clock moves between two pages.
        name = f"{parts.path}?{query.get('updated_since', '')}"
        start = self._offset(query["page_token"], name) if "page_token" in query else 0
        end = start + size
        following = f'"{self._token(end, name)}"' if end < len(rows) else "null"
        return b'{"data":[%b],"next_page_token":%b}' % (b",".join(rows[start:end]), following.encode())

    def _shown(self) -> list[Campaign]:
        today = self._today()
        if today is None:
            return []
        return [campaign for campaign in self._campaigns if campaign.updated_at < clock.ends_at(today)]

    def _token(self, offset: int, name: str) -> str:
        seal = hmac.new(self._key, f"{offset} {name}".encode(), hashlib.sha256).digest()[:12]
        return urlsafe_b64encode(offset.to_bytes(6, "big") + seal).decode()

    def _offset(self, token: str, name: str) -> int:
        try:
            offset = int.from_bytes(urlsafe_b64decode(token)[:6], "big")
        except ValueError:
            offset = 0
        if not hmac.compare_digest(self._token(offset, name).encode(), token.encode()):
            raise Refusal(400, "page_token was not given for this list")
        return offset

    @cached_property
    def _campaigns(self) -> list[Campaign]:
        """Every campaign of the year in the order in which they appear."""
        found = []
        for row in self._data.read("campaign_descriptions").to_pylist():
            start, end = row["start_date"].date(), row["end_date"].date()
            at = prepared_at(start)
            shown = row | {"start_date": str(start), "end_date": str(end)}
            shown["updated_at"] = at.isoformat().replace("+00:00", "Z")
            found.append(Campaign(at, row["campaign_id"], json.dumps(shown, separators=(",", ":")).encode()))
        return sorted(found, key=lambda campaign: (campaign.updated_at, campaign.campaign_id))

    @cached_property
    def _parts(self) -> Mapping[str, Mapping[int, list[bytes]]]:
        """The JSON of each recipient and each coupon, by campaign, in the order of the source."""
        recipients: dict[int, list[bytes]] = {}
        for campaign, household in _rows(self._data.read("campaigns"), "campaign_id", "household_id"):
            text = b'{"campaign_id":%d,"household_id":%d}' % (campaign, household)
            recipients.setdefault(campaign, []).append(text)
        coupons: dict[int, list[bytes]] = {}
        table = self._data.read("coupons")
        for campaign, upc, product in _rows(table, "campaign_id", "coupon_upc", "product_id"):
            text = b'{"campaign_id":%d,"coupon_upc":%d,"product_id":%d}' % (campaign, upc, product)
            coupons.setdefault(campaign, []).append(text)
        return {"recipients": recipients, "coupons": coupons}


def _rows(table: pa.Table, *names: str) -> zip[tuple[int, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def _query(text: str, allowed: frozenset[str]) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    query = dict(pairs)
    if unknown := sorted(query.keys() - allowed):
        raise Refusal(400, f"unknown parameter: {', '.join(unknown)}")
    if len(query) < len(pairs):
        raise Refusal(400, "a parameter is given twice")
    return query


def _page_size(text: str | None) -> int:
    if text is None:
        return DEFAULT_PAGE
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise Refusal(400, f"page_size must be a number from 1 to {LARGEST_PAGE}")
    return int(text)


def _instant(text: str | None) -> datetime:
    """Return `updated_since`, which is inclusive, as an instant; the beginning of time if it is not given."""
    if text is None:
        return datetime.min.replace(tzinfo=timezone.utc)
    try:
        instant = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise Refusal(400, "updated_since must be an instant such as 2017-02-24T14:00:00Z")
    return instant
