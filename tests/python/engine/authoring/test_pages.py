"""The data documentation and the page of profiles are served, and nothing else of dbt's folder."""

from __future__ import annotations

import threading
from functools import partial
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from granary.cli.serve import _Quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    for name in ("static_index.html", "profiles.html", "manifest.json"):
        (tmp_path / name).write_text(name)
    handler = partial(_Quiet, ("static_index.html", "profiles.html"), directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/", 200, "static_index.html"),
        ("/index.html", 200, "static_index.html"),
        ("/static_index.html?x=1", 200, "static_index.html"),
        ("/profiles.html", 200, "profiles.html"),
        ("/profiles.html/../manifest.json", 404, None),
        ("/manifest.json", 404, None),
    ],
)
def test_only_the_pages_are_served(port: int, path: str, status: int, body: str | None) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == status
    text = answer.read().decode()
    assert body is None or text == body
    connection.close()
