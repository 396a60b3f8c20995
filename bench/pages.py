"""How fast JSON pages come from HTTP into raw: `python -m bench.pages [rows] [rows per page]`.

The server is another process that has its pages ready, so what is measured is the loader: requests, JSON, Arrow,
contract, COPY, ledger, commit. The rows are receipt lines: four whole numbers, two decimals, an instant, a text and
a flag, about 190 bytes each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from bench.peak import peak_mb
from granary.readers.rest import Api, ApiKey, Cursor, Endpoint, RestReader
from granary.sources.spec import Column, Source, Table

ROWS, PAGE = 1_000_000, 5_000
PAGES = 20
"""Pages that differ; they are served again and again, under other keys of the receipts."""

LINES = Table(
    "lines",
    "Receipt lines.",
    "/lines",
    (
        Column("basket_id", pa.int64(), "Basket.", nullable=False, minimum=0),
        Column("line", pa.int32(), "Line.", nullable=False, minimum=1),
        Column("household_id", pa.int64(), "Household."),
        Column("product_id", pa.int64(), "Product."),
        Column("sales_value", pa.decimal128(12, 2), "Sales."),
        Column("retail_disc", pa.float64(), "Discount."),
        Column("sold_at", pa.timestamp("us", tz="UTC"), "When."),
        Column("store", pa.string(), "Where."),
        Column("online", pa.bool_(), "How."),
    ),
    "replace_unit",
    timedelta(days=1),
)


def page(number: int, rows: int) -> list[dict[str, object]]:
    """Return the rows of a page."""
    return [
        {
            "basket_id": 31_198_000_000 + number,
            "line": n + 1,
            "household_id": n % 2469,
            "product_id": 820_000 + n * 37 % 92_331,
            "sales_value": n % 1000 / 100,
            "retail_disc": n % 7 / 8,
            "sold_at": f"2017-03-{1 + n % 28:02d}T{n % 24:02d}:{n % 60:02d}:00-05:00",
            "store": f"Store {n % 457}",
            "online": n % 5 == 0,
        }
        for n in range(rows)
    ]


def serve(rows: int, size: int) -> None:
    """Serve pages until the process is ended; the port is the first line of stdout."""
    ready = [json.dumps(page(number, size), separators=(",", ":")).encode() for number in range(PAGES)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = int(dict(parse_qsl(urlsplit(self.path).query)).get("cursor", 0))
            following = number + 1 if (number + 1) * size < rows else None
            head = json.dumps({"next": following, "page": number})[:-1].encode()
            body = head + b', "data": ' + ready[number % PAGES] + b"}"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def measure(rows: int = ROWS, size: int = PAGE) -> tuple[int, float, float]:
    """Load once, and return the rows that landed, the seconds, and the loader's CPU seconds."""
    from granary.load import api as load  # noqa: PLC0415 - the serving process needs none of it
    from granary.warehouse import server  # noqa: PLC0415
    from granary.warehouse.settings import Settings  # noqa: PLC0415

    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "serve", str(rows), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            url = f"http://127.0.0.1:{int(child.stdout.readline())}"
            endpoint = Endpoint(LINES.location, pagination=Cursor("next", "cursor"), conditional=False)
            api = Api(url, auth=ApiKey("X-Api-Key", "key"))
            spec = Source("shop", "A shop.", "bench", "api", (), lambda _: RestReader(api, endpoint), (LINES,))
            load.SOURCES = {"shop": spec}
            settings = Settings.load()
            server.up(settings)
            server.prepare(settings)
            began, cpu = time.perf_counter(), time.process_time()
            result = load.load_table(settings, "shop", "lines", full_refresh=True)
            return result.rows_loaded, time.perf_counter() - began, time.process_time() - cpu
        finally:
            child.kill()


def main() -> None:
    """Measure, and print rows a second and the loader's peak memory."""
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), int(sys.argv[3]))
    numbers = [int(number) for number in sys.argv[1:3]]
    rows, seconds, cpu = measure(*numbers)
    speed = f"{rows / seconds:,.0f} rows/s"
    sys.stdout.write(f"{rows:,} rows in {seconds:.1f} s ({cpu:.1f} s of them CPU): {speed}, peak {peak_mb():,} MB\n")


if __name__ == "__main__":
    main()
