"""A CRM database and an HTTP service that misbehaves on request: all real, all on loopback."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.crm import database as crm_database
from granary.warehouse.connection import connect, ensure_database, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings


@pytest.fixture
def crm(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that runs SQL in a CRM database of its own, with two households and two stores in it."""
    ensure_database(warehouse, crm_database(warehouse))
    monkeypatch.setenv("GRANARY_CRM_URL", warehouse.uri(crm_database(warehouse)))

    def run(sql: str) -> None:
        with connect(warehouse, crm_database(warehouse), autocommit=True) as connection:
            execute(connection, sql)

    run(
        "create table households (household_id bigint primary key, age text, income text, home_ownership text,"
        " marital_status text, household_size text, household_comp text, kids_count text, updated_at timestamptz)"
    )
    run(
        "insert into households (household_id, age, updated_at)"
        " values (1, '19-24', '2017-01-01Z'), (2, null, '2017-01-02Z')"
    )
    run("create table stores (store_id bigint primary key, updated_at timestamptz)")
    run("insert into stores select n, '2017-01-01Z' from generate_series(1, 10) as n")
    return run


@dataclass
class Service:
    """A JSON API whose answers a test writes down: (status, headers, body) in order, the last one for ever."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def hang(self) -> None:
        """Answer nothing until released."""
        self.gate.clear()

    def release(self) -> None:
        self.gate.set()

    def page(self, data: list[Any], token: str | None = None) -> None:
        self.answer(200, json.dumps({"data": data, "next_page_token": token}).encode())

    def answer(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        self.answers.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, body))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Return a real HTTP server that the source `marketing` reads."""
    script = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.asked.append(self.path)
            script.keys.append(self.headers.get("X-Api-Key"))
            script.gate.wait(30)
            if not script.answers:
                return
            status, headers, body = script.answers[min(len(script.asked), len(script.answers)) - 1]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("GRANARY_MARKETING_URL", script.url)
        monkeypatch.setenv("GRANARY_MARKETING_KEY", "right-key")
        yield script
        server.shutdown()
        thread.join()


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of redemption events that the source `events` reads."""
    folder = tmp_path / "events" / "coupon_redemptions"
    folder.mkdir(parents=True)
    monkeypatch.setenv("GRANARY_EVENTS_LANDING", str(folder.parent))
    return folder
