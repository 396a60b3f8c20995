"""A JSON API: a collection in pages past a cursor, and a collection per parent."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from granary.readers.rest import Api, ApiKey, Cursor, Endpoint, Parent, RestReader, Since
from granary.sources.spec import Column, Source, Table
from tests.python.engine.chaos.world import REFUSED, Rows, World, load_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.warehouse.settings import Settings

PAGE = 400
PARENTS = (700, 1100)
PAGES = Cursor("next_page_token", "page_token")
BEGIN = datetime(2017, 1, 1, tzinfo=timezone.utc)

CAMPAIGNS = Table(
    "campaigns",
    "Merged.",
    "/campaigns",
    (
        Column("id", pa.int64(), "Campaign.", nullable=False),
        Column("title", pa.string(), "Its title."),
        Column("updated_at", pa.timestamp("us", tz="UTC"), "When it last changed.", nullable=False),
    ),
    "merge",
    timedelta(days=1),
    key=("id",),
    cursor="updated_at",
)
MEMBERS = Table(
    "members",
    "One collection per group.",
    "/groups/{id}/members",
    (
        Column("group_id", pa.int64(), "Group.", nullable=False),
        Column("id", pa.int64(), "Member.", nullable=False),
        Column("amount", pa.int64(), "Cents.", nullable=False, minimum=0),
    ),
    "replace_unit",
    timedelta(days=1),
    max_refused=0.5,
)


def source(url: str) -> Source:
    """Return the source of the service."""
    groups = Parent(Endpoint("/groups", pagination=PAGES), key="id", version="updated_at")

    def reader(_: Mapping[str, str]) -> RestReader:
        return RestReader(
            Api(url, auth=ApiKey("X-Api-Key", "key")),
            Endpoint(CAMPAIGNS.location, pagination=PAGES, since=Since("since")),
            Endpoint(MEMBERS.location, pagination=PAGES, parent=groups),
        )

    return Source(
        "chaos_api",
        "A service.",
        "tests",
        "api",
        (),
        reader,
        (CAMPAIGNS, MEMBERS),
    )


@dataclass(frozen=True)
class ApiLoader:
    """Loads the service's collections."""

    url: str

    def load(self, settings: Settings) -> None:
        """Load both tables."""
        load_all(settings, source(self.url))


class ApiWorld(World):
    """A service with campaigns, and groups with members of which some are refused."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.day = 0
        self.campaigns: dict[int, dict[str, Any]] = {}
        self.groups: dict[int, dict[str, Any]] = {}
        self.members: dict[int, list[dict[str, Any]]] = {}
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                address = urlsplit(self.path)
                asked = {name: values[0] for name, values in parse_qs(address.query).items()}
                body = json.dumps(world.page(address.path, asked.get("since", ""), int(asked.get("page_token", 0))))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Clients are killed here: say nothing."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        url = f"http://127.0.0.1:{self.server.server_port}"
        self.source, self.loader = source(url), ApiLoader(url)
        self.tables = self.source.tables

    def page(self, path: str, since: str, start: int) -> dict[str, Any]:
        """Return a page of a collection; a token is the place of the next page's first row."""
        if path == "/campaigns":
            past = datetime.fromisoformat(since) if since else BEGIN
            rows = [c for c in self.campaigns.values() if datetime.fromisoformat(c["updated_at"]) >= past]
        elif path == "/groups":
            rows = list(self.groups.values())
        else:
            rows = self.members[int(path.split("/")[2])]
        end = start + PAGE
        return {"data": rows[start:end], "next_page_token": str(end) if end < len(rows) else None}

    def advance(self) -> None:
        self.day += 1
        random, now = self.random, (BEGIN + timedelta(days=self.day)).isoformat()
        old = random.sample(sorted(self.campaigns), len(self.campaigns) // 5)
        new = range(len(self.campaigns), len(self.campaigns) + random.randint(*PARENTS))
        for number in [*old, *new]:
            self.campaigns[number] = {"id": number, "title": f"Campaign {random.random()}", "updated_at": now}
        for group in random.sample(range(5), 2):
            self.groups[group] = {"id": group, "updated_at": now}
            self.members[group] = [
                {"group_id": group, "id": random.randrange(9999), "amount": random.randrange(-5, 500)}
                for _ in range(random.randint(*PARENTS))
            ]

    def truth(self) -> dict[str, Rows]:
        found: dict[str, Rows] = {"members": Counter(), REFUSED: Counter()}
        for group, members in self.members.items():
            found["members"].update(tuple(row.values()) for row in members if row["amount"] >= 0)
            found[REFUSED].update(
                ("members", f"/groups/{group}/members", place, "amount", str(row["id"]))
                for place, row in enumerate(members, start=1)
                if row["amount"] < 0
            )
        found["campaigns"] = Counter(
            (row["id"], row["title"], datetime.fromisoformat(row["updated_at"])) for row in self.campaigns.values()
        )
        return found

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
