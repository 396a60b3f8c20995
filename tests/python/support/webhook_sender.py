"""Who posts signed events to a running `granary serve-webhooks`."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from granary.streams.signatures import sign
from granary.warehouse.connection import connect, query
from tests.python.support.stream_servers import TOPIC, command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

SECRET, NEXT = "an-old-secret-of-many-bytes", "the-next-secret-of-many-bytes"


class Sender:
    """Posts signed events to a running `granary serve-webhooks`."""

    def __init__(self, url: str, settings: Settings, table: str) -> None:
        self.url, self.settings, self.table = url, settings, table

    def post(self, what: Any, *, key: str | None = None, secret: str = SECRET, **headers: str) -> tuple[int, Any]:
        """Send an event, a list, or bytes as they are, and return the status and the answer."""
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        signed = {"Granary-Signature": sign(secret, int(time.time()), body, key)} | headers
        if key is not None:
            signed.setdefault("Idempotency-Key", key)
        answer = requests.post(
            f"{self.url}/events/{self.table}", data=body, headers=signed, timeout=60, proxies={"http": ""}
        )
        return answer.status_code, answer.json()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with connect(self.settings) as connection:
            return query(connection, sql)

    def ids(self, like: str) -> list[str]:
        return [
            str(row[0])
            for row in self.query(
                f"select event_id from raw_events.{self.table} where event_id like '{like}' order by 1"
            )
        ]


@contextmanager
def serving(
    settings: Settings, table: str = TOPIC, **environment: str
) -> Iterator[tuple[Sender, subprocess.Popen[str]]]:
    """Run the webhooks, and return who posts to a table of the source `events`."""
    process = command(
        *("serve-webhooks", "--port", "0"), GRANARY_EVENTS_WEBHOOK_SECRETS=f"{SECRET},{NEXT}", **environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Webhooks at http://127.0.0.1:"), line or process.communicate()
        yield Sender(line.split()[2].removesuffix("/<source>/<table>"), settings, table), process
    finally:
        process.kill()
        process.wait()
