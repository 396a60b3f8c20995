"""APIs and webhooks: batches, or single rows, as JSON by POST, each with an idempotency key.

    {"delivery": "orders_out", "publish": 118, "id": "5f0c…-17-9c0d…", "rows": [
        {"id": "5f0c…-17-9c0d…-4e07…", "op": "insert", "key": {"order_id": 7}, "row": {"order_id": 7, "amount": 9.50}}
    ]}

The header Idempotency-Key has the same id (draft-ietf-httpapi-idempotency-key-header): a request that is repeated has
the same key and body, and a receiver that honours it does its work once.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from granary.deliver.sending import RefusedError
from granary.deliver.spec import HttpApi
from granary.readers.api.http import TRANSIENT, Client
from granary.readers.api.messages import Call, shown
from granary.readers.api.spec import Api
from granary.streams.signatures import HEADER, sign
from granary.warehouse.errors import GranaryError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.deliver.records import Batch, Row
    from granary.deliver.spec import Webhook

ROWS_REFUSED = frozenset({400, 409, 410, 413, 422})
"""What says that something is wrong with rows; every other error of a client is about address or credentials."""
TODO = "nothing is lost: run `granary deliver` again when the service is well"
GOOD = range(200, 300)


class HttpSender:
    """Sends to an API, or signed events to a webhook."""

    def __init__(self, target: HttpApi | Webhook) -> None:
        """Remember it; nothing is sent yet."""
        if isinstance(target, HttpApi):
            api, self.url, self.secret = target.api, target.api.at(target.path), ""
        else:
            api = Api(target.url, rate=target.rate)
            self.url, self.secret = target.url, target.secret
        self.client, self.is_apart = Client(api), target.per_row

    def check(self, columns: Mapping[str, str]) -> None:
        """Pass: an API says nothing before it is sent something."""

    def position(self) -> str | None:
        """Return nothing: the receiver knows by the key whether it has a batch."""
        return None

    def send(self, batch: Batch) -> list[tuple[Row, str]]:
        """Send a batch.

        Raises:
            RefusedError: the service refuses it.
            GranaryError: it does not answer, or refuses us.
        """
        self._post(batch, batch.rows, batch.id)
        return []

    def send_row(self, batch: Batch, row: Row) -> None:
        """Send one row of a batch; see `send`."""
        self._post(batch, (row,), id_of(batch, row))

    def close(self) -> None:
        """Close the connections."""
        self.client.session().close()

    def _post(self, batch: Batch, rows: Sequence[Row], key: str) -> None:
        body = body_of(batch, rows, key)
        headers: tuple[tuple[str, str], ...] = (("Idempotency-Key", key),)
        if self.secret:
            headers += ((HEADER, sign(self.secret, int(time.time()), body, key)),)
        answer = self.client.attempt(Call(self.url, (), headers, body))
        if answer.status in GOOD:
            return
        where = shown(self.url)
        if answer.status in ROWS_REFUSED:
            raise RefusedError(f"the service answered {answer.status}")
        if answer.status in (401, 403):
            what = f"the service refuses our {self.client.auth.word} ({answer.status})"
            raise GranaryError(what, where, "check the delivery's key")
        kind = TransientError if answer.status in TRANSIENT else GranaryError
        raise kind(f"the service answered {answer.status}", where, TODO)


def id_of(batch: Batch, row: Row) -> str:
    """Return the id of one row of a batch, which does not tell its key."""
    return f"{batch.id}-{hashlib.sha256(f'{batch.id} {row.key}'.encode()).hexdigest()[:16]}"


def body_of(batch: Batch, rows: Sequence[Row], key: str) -> bytes:
    """Return a request's body; the rows are as Postgres wrote them, so that no number loses a digit."""
    parts = (
        f'{{"id":"{id_of(batch, row)}","op":"{row.op}","key":{row.key},"row":{row.payload or "null"}}}' for row in rows
    )
    head = f'"delivery":{json.dumps(batch.delivery)},"publish":{batch.publish_id},"id":"{key}"'
    return f'{{{head},"rows":[{",".join(parts)}]}}'.encode()
