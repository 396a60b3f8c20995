"""The network between loader and source, and between loader and warehouse, cut at chosen bytes: nothing lost, nothing
double, one clear error, and the next load puts it right.

The places are spread over the bytes of a load that was measured just before, and hit both ends of it: the login, and
the answer to the commit.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest

from granary.load import api as load
from granary.readers.api import http
from granary.readers.database import DatabaseReader, connecting
from granary.readers.database import parallel as readers
from granary.readers.rest import Api, Cursor, Endpoint, RestReader
from granary.sources.spec import Column, Source, Table
from granary.warehouse.connection import connect, ensure_database, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.support import mariadb
from tests.python.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.sources.spec import Reader
    from granary.warehouse.settings import Settings
    from tests.python.support.proxy import Direction, Upstream

ROWS = 5_000
SHARES = (0.0, 0.02, 0.4, 0.8, 0.99)
"""Where the network is cut, as shares of the bytes of the whole load."""
COLUMNS = (Column("id", pa.int64(), "Order.", nullable=False), Column("note", pa.string(), "What was said."))
ORDERS = Table("orders", "Orders.", "orders", COLUMNS, "merge", timedelta(days=1), key=("id",))
COLLECTION = replace(ORDERS, location="/orders")


@dataclass
class World:
    """A source behind a proxy, and what it holds; `turn` changes every row of it."""

    proxy: Proxy
    reader: Callable[[], Reader]
    table: Table
    change: Callable[[int], None]
    secret: str = "no such word"
    turns: int = 0

    def turn(self) -> None:
        self.turns += 1
        self.change(self.turns)

    @property
    def truth(self) -> Counter[tuple[Any, ...]]:
        return Counter((n, f"note {n} of turn {self.turns}") for n in range(ROWS))

    def load(self, settings: Settings) -> load.LoadResult:
        source = Source("shop", "A shop.", "tests", "test", (), lambda _: self.reader(), (self.table,))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(load, "SOURCES", {"shop": source})
            return load.load_table(settings, "shop", "orders")


def landed(settings: Settings) -> Counter[tuple[Any, ...]]:
    """Return the raw table as a multiset."""
    with connect(settings) as connection:
        if query(connection, "select to_regclass('raw_shop.orders')::text") == [(None,)]:
            return Counter()
        return Counter(query(connection, "select id, note from raw_shop.orders"))


def statuses(settings: Settings) -> list[object]:
    with connect(settings) as connection:
        return [row[0] for row in query(connection, "select status from ops.load_audit order by load_id")]


def ledger_agrees(settings: Settings) -> bool:
    """Return whether every row of the raw table is of a load that the ledger counts as done."""
    with connect(settings) as connection:
        return query(
            connection,
            "select count(*) from raw_shop.orders as o left join ops.load_audit as a"
            " on a.load_id = o._load_id and a.status = 'loaded' where a.load_id is null",
        ) == [(0,)]


# -- sources ----------------------------------------------------------------------------------------------------


@pytest.fixture
def postgres(settings: Settings) -> Iterator[World]:
    """Return a table of a Postgres on the shared server, reached by TCP through a proxy."""
    name = f"{settings.database}_network"
    ensure_database(settings, name)

    def change(turn: int) -> None:
        with connect(settings, name, autocommit=True) as connection:
            execute(connection, "create table if not exists orders (id bigint primary key, note text)")
            execute(connection, "truncate orders")
            execute(
                connection,
                "insert into orders select n, 'note ' || n || ' of turn ' || $1 from generate_series(0, $2 - 1) as n",
                str(turn),
                ROWS,
            )

    with Proxy(upstream_of(settings)) as proxy:
        uri = through(settings, proxy).uri(name)
        yield World(proxy, lambda: DatabaseReader(uri), replace(ORDERS, location="public.orders"), change)
    with connect(settings, "postgres", autocommit=True) as connection:
        execute(connection, f'drop database "{name}" with (force)')


@pytest.fixture
def parallel(postgres: World) -> World:
    """Return the same with three readers."""
    uri = postgres.reader().database.uri  # type: ignore[attr-defined]
    return replace(postgres, reader=lambda: DatabaseReader(uri, parallel=3))


@pytest.fixture
def maria() -> Iterator[World]:
    """Return a table of a MariaDB through a proxy."""
    program = mariadb.binary()
    if program is None:
        pytest.skip(f"there is no MariaDB server here: install the Debian package {mariadb.PACKAGE}")
    server = mariadb.start(program)
    server.run("create table orders (id bigint primary key, note text)")

    def change(turn: int) -> None:
        server.run(
            "truncate orders",
            f"insert into orders select seq, concat('note ', seq, ' of turn {turn}') from seq_0_to_{ROWS - 1}",
        )

    try:
        with Proxy(("127.0.0.1", server.port)) as proxy:
            uri = server.uri.replace(f":{server.port}/", f":{proxy.port}/")
            yield World(proxy, lambda: DatabaseReader(uri), ORDERS, change, server.reader)
    finally:
        server.stop()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a JSON collection of ten pages through a proxy."""
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.005)
    turns = [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            begin = int(parse_qs(urlsplit(self.path).query).get("page_token", ["0"])[0])
            end = begin + ROWS // 10
            rows = [{"id": n, "note": f"note {n} of turn {turns[0]}"} for n in range(begin, end)]
            body = json.dumps({"data": rows, "next_page_token": str(end) if end < ROWS else None}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing: clients are cut off on purpose here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        with Proxy(("127.0.0.1", server.server_port)) as proxy:
            endpoint = Endpoint("/orders", pagination=Cursor("next_page_token", "page_token"))
            service = Api(f"http://127.0.0.1:{proxy.port}", attempts=2, timeout=1.0)
            yield World(
                proxy, lambda: RestReader(service, endpoint), COLLECTION, lambda turn: turns.__setitem__(0, turn)
            )
        server.shutdown()
        thread.join()


def upstream_of(settings: Settings) -> Upstream:
    """Return where a warehouse's server listens."""
    return (settings.host, settings.port) if settings.external else Path(settings.host) / f".s.PGSQL.{settings.port}"


def through(settings: Settings, proxy: Proxy) -> Settings:
    """Return a warehouse as it is reached through a proxy: an external one, by TCP."""
    return replace(settings, external=True, host="127.0.0.1", port=proxy.port, libpq=(("sslmode", "disable"),))


@pytest.fixture(params=["postgres", "parallel", "maria", "api"])
def world(request: pytest.FixtureRequest) -> World:
    """Return each kind of source in its turn."""
    found: World = request.getfixturevalue(request.param)
    found.turn()
    return found


# -- between loader and source ----------------------------------------------------------------------------------


def test_cut_between_loader_and_source(world: World, warehouse: Settings) -> None:
    world.load(warehouse)
    assert landed(warehouse) == world.truth
    world.turn()
    begin = world.proxy.passed["down"]
    world.load(warehouse)
    whole = world.proxy.passed["down"] - begin
    assert whole > ROWS * 10
    for share in SHARES:
        before = world.truth
        world.turn()
        cuts = world.proxy.cuts
        world.proxy.cut_after(int(whole * share))
        with pytest.raises(GranaryError, match=r"(stopped answering|cannot connect|answer)") as caught:
            world.load(warehouse)
        assert world.proxy.cuts == cuts + 1
        assert "nothing of this load has landed" in str(caught.value)
        assert world.secret not in str(caught.value)
        assert landed(warehouse) == before
        assert statuses(warehouse)[-1] == "failed"
        world.proxy.heal()
        assert world.load(warehouse).status == "loaded"
        assert landed(warehouse) == world.truth
    assert ledger_agrees(warehouse)
    assert statuses(warehouse).count("failed") == len(SHARES)


def test_source_that_cannot_be_reached(world: World, warehouse: Settings) -> None:
    world.proxy.refuse()
    with pytest.raises(GranaryError):
        world.load(warehouse)
    assert landed(warehouse) == Counter()
    world.proxy.heal()
    world.load(warehouse)
    assert landed(warehouse) == world.truth


def test_a_short_interruption_of_an_api_is_not_even_an_error(api: World, warehouse: Settings) -> None:
    api.turn()
    api.load(warehouse)
    whole = api.proxy.passed["down"]
    for share in SHARES[1:]:
        api.turn()
        api.proxy.cut_after(int(whole * share), once=True)
        assert api.load(warehouse).status == "loaded"
        assert landed(warehouse) == api.truth
    assert api.proxy.cuts == len(SHARES) - 1


@pytest.mark.parametrize("kind", ["maria", "api"])
def test_silence_in_the_middle_ends_the_load(
    kind: str, request: pytest.FixtureRequest, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "SILENCE_SECONDS", 1)
    world: World = request.getfixturevalue(kind)
    world.turn()
    world.load(warehouse)
    before, whole = world.truth, world.proxy.passed["down"]
    world.turn()
    world.proxy.stall_after(whole // 2)
    with pytest.raises(GranaryError, match=r"(stopped answering|answer)"):
        world.load(warehouse)
    assert landed(warehouse) == before
    world.proxy.heal()
    world.load(warehouse)
    assert landed(warehouse) == world.truth


def test_several_readers_in_a_dead_network_are_left_behind(parallel: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "FAREWELL_SECONDS", 0.5)
    parallel.turn()
    threads = threading.active_count()
    [unit] = parallel.reader().units(parallel.table, None)
    reading = parallel.reader().read(parallel.table, unit, None)
    next(reading)
    parallel.proxy.stall()
    reading.close()  # type: ignore[attr-defined]
    parallel.proxy.drop()
    parallel.proxy.heal()
    deadline = time.monotonic() + 30
    while threading.active_count() > threads:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_says_nothing_at_all_is_given_up(
    postgres: World, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connecting.LIBPQ, "connect_timeout", 2)  # the least that libpq takes
    postgres.turn()
    postgres.proxy.stall()
    with pytest.raises(GranaryError, match="timeout expired"):
        postgres.load(warehouse)
    postgres.proxy.heal()
    postgres.load(warehouse)
    assert landed(warehouse) == postgres.truth


# -- between loader and warehouse -------------------------------------------------------------------------------


@pytest.fixture
def near(api: World) -> World:
    """Return a source whose own network is good."""
    return api


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cut_between_loader_and_warehouse(near: World, warehouse: Settings, direction: Direction) -> None:
    with Proxy(upstream_of(warehouse)) as proxy:
        far = through(warehouse, proxy)
        near.turn()
        near.load(far)
        assert landed(warehouse) == near.truth
        near.turn()
        begin = dict(proxy.passed)
        near.load(far)
        whole = proxy.passed[direction] - begin[direction]
        # The last bytes are those of the commit and, downwards, of the answer to it.
        places = [*(int(whole * share) for share in SHARES), whole - 60, whole - 12, whole - 3]
        committed = 0
        for place in places:
            before = near.truth
            near.turn()
            cuts = proxy.cuts
            proxy.cut_after(place, direction)
            words = ""
            try:
                near.load(far)
            except GranaryError as error:
                words = str(error)
            assert ("cannot connect" in words or "the load was interrupted by the warehouse" in words) == (
                proxy.cuts > cuts
            )
            proxy.heal()
            now = landed(warehouse)
            assert not ("nothing of it has landed" in words and now == near.truth)
            # Either the commit had arrived, then all of it is there; or it had not, then nothing of it is.
            assert now in (before, near.truth)
            committed += now == near.truth
            near.load(far)
            assert landed(warehouse) == near.truth
        assert 0 < committed < len(places) or direction == "up"
    assert ledger_agrees(warehouse)


def test_warehouse_that_cannot_be_reached(near: World, warehouse: Settings) -> None:
    near.turn()
    with Proxy(upstream_of(warehouse)) as proxy:
        proxy.refuse()
        with pytest.raises(GranaryError, match=r"cannot connect to Postgres.*check the PG\* variables"):
            near.load(through(warehouse, proxy))
        proxy.heal()
        near.load(through(warehouse, proxy))
    assert landed(warehouse) == near.truth


# -- the proxy itself -------------------------------------------------------------------------------------------


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """Return the address of a server that sends back what it gets."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def exchange(proxy: Proxy, data: bytes) -> bytes:
    """Send data through the proxy and return what comes back before the end or the break."""
    answer = b""
    # A connection that is reset at once may already fail to be made.
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(data)
        with suppress(OSError):  # it was reset before it could be shut
            client.shutdown(socket.SHUT_WR)
        while more := client.recv(65536):
            answer += more
    return answer


def test_proxy_forwards_and_cuts_at_the_byte(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy:
        assert exchange(proxy, b"a" * 100_000) == b"a" * 100_000
        assert proxy.passed == {"up": 100_000, "down": 100_000}
        proxy.cut_after(7, once=True)
        assert len(exchange(proxy, b"b" * 1000)) <= 7
        assert (proxy.passed["down"], proxy.cuts) == (100_007, 1)
        assert exchange(proxy, b"c" * 10) == b"c" * 10
        proxy.cut_after(5, "up")
        assert exchange(proxy, b"d" * 1000) in (b"", b"d" * 5)
        assert exchange(proxy, b"e") == b""
        proxy.heal()
        assert exchange(proxy, b"f") == b"f"
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def test_proxy_stalls_and_drops(echo: tuple[str, int]) -> None:
    with Proxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as client:
        client.sendall(b"a")
        assert client.recv(9) == b"a"
        proxy.stall()
        client.sendall(b"b")
        with pytest.raises(TimeoutError):
            client.recv(9)
        proxy.heal()
        client.settimeout(10)
        assert client.recv(9) == b"b"
        proxy.drop()
        with suppress(ConnectionResetError):
            assert client.recv(9) == b""
