"""Memory stays at about 200 MB, however many pages a collection has."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 5_000
"""Of a page, which the documentation calls a good size."""
SCRIPT = """
import resource, sys
from datetime import timedelta

import pyarrow as pa

from granary.readers.rest import Api, Endpoint, Page, RestReader
from granary.sources.spec import Column, Table

def load(path):
    kept = Table(
        name="lines", description="Lines.", location=path, disposition="replace", key=("id",),
        freshness=timedelta(days=1),
        columns=(Column("id", pa.int64(), "Line.", nullable=False), Column("words", pa.string(), "Words.")),
    )
    reader = RestReader(Api(sys.argv[1]), Endpoint(path, rows="data", pagination=Page("page")))
    [unit] = reader.units(kept, None)
    return sum(batch.rows for batch in reader.read(kept, unit, None))

def peak():
    # Of this program alone: what getrusage says begins with the peak of the process that started it.
    for line in open("/proc/self/status") if sys.platform == "linux" else ():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 20)

few, before = load("/4"), peak()
print(few, load("/60"), before, peak())
"""


class Pages(BaseHTTPRequestHandler):
    """`/60?page=7` is the seventh of 60 pages."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        page, pages = int(parse_qs(parts.query)["page"][0]), int(parts.path[1:])
        ids = range(page * ROWS, (page + 1) * ROWS) if page <= pages else ()
        body = json.dumps({"data": [{"id": n, "words": f"{n:0120d}"} for n in ids]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_memory_does_not_grow_with_the_pages() -> None:
    with serving() as url:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, url], capture_output=True, text=True, check=False, cwd=PROJECT
        )
    assert done.returncode == 0, done.stderr
    few, many, before, after = map(int, done.stdout.split())
    assert (few, many) == (4 * ROWS, 60 * ROWS)
    assert before < 250, "MB"
    assert after - before < 25, "60 pages of 0.7 MB are 42"
