"""`granary doctor SOURCE` to strangers: what is in the way, where, and what to do; no traceback, and no secret."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from botocore import auth

from granary.kinds import examination
from granary.readers.api.spec import Api, ApiKey
from granary.readers.database import DatabaseReader
from granary.readers.files import FileReader
from granary.readers.rest import Endpoint, RestReader
from granary.sources.capture import CapturedReader
from granary.sources.spec import Column, Source, Stream, Table
from tests.python.engine.files.conftest import store  # noqa: F401 - a fixture
from tests.python.support import log_servers, mariadb
from tests.python.support.sftp_server import sftp_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.sources.spec import Reader
    from granary.warehouse.findings import Finding
    from granary.warehouse.settings import Settings
    from tests.python.engine.files.conftest import Store
    from tests.python.support.log_servers import LogServer
    from tests.python.support.stream_servers import Broker

    Ask = Callable[..., tuple[Finding, ...]]

SECRET = "never-to-be-shown"
AWAY = "127.0.0.1:1"
ORDERS = Table(
    name="orders",
    description="Orders.",
    location="orders",
    columns=(Column("order_id", pa.int64(), "Order.", nullable=False),),
    disposition="append",
    freshness=timedelta(days=1),
    key=("order_id",),
)
FILES = replace(ORDERS, location="orders/*.csv", disposition="replace_unit", key=())
WHOLE = replace(ORDERS, disposition="replace")


@pytest.fixture
def ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return what examines a source, and looks at what every answer has to be."""

    def asked(opened: Callable[[], Reader] | str, table: Table = ORDERS, topic: str = "orders") -> tuple[Finding, ...]:
        stream, reader = None, CapturedReader
        if isinstance(opened, str):
            monkeypatch.setenv("STRANGER_STREAM", opened)
            stream = Stream({"orders": topic}, "STRANGER_STREAM", "STRANGER_SECRETS")
        else:
            reader = opened  # type: ignore[assignment]
        source = Source("stranger", "Unknown.", "tests", "x", (), lambda _: reader(), (table,), stream)
        for module in ("granary.streams.opening", "granary.kinds.examination"):
            monkeypatch.setattr(f"{module}.SOURCES", {"stranger": source})
        found = examination.examine(settings, "stranger").findings
        for one in found:
            assert one.what, one
            assert one.where, one
            assert one.todo, one
            assert SECRET not in f"{one}", one
            assert "Error" not in one.what, one
            assert "Traceback" not in f"{one}", one
        return found

    return asked


def problem(found: tuple[Finding, ...]) -> str:
    """Return the one thing that is in the way, with its place and the advice."""
    (one,) = [one for one in found if one.severity == "problem"]
    return f"{one.what} | {one.where} | {one.todo}"


# -- logs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["redis", "nats"])
def server(request: pytest.FixtureRequest) -> Iterator[LogServer]:
    """Return a server with the topic `there`."""
    found = log_servers.start(request.param)
    if found is None:
        pytest.skip(f"there is no {request.param} here: install its Debian package")
    found.create("there")
    yield found
    found.stop()


def test_a_log_that_is_not_there(server: LogServer, ask: Ask) -> None:
    for host in (AWAY, "no-such-host.invalid"):
        said = problem(ask(f"{server.kind}://{host}?user=u&password={SECRET}"))
        assert "does not answer" in said
        assert host in said
        assert "and that it is up" in said


def test_a_log_that_does_not_let_us_in(server: LogServer, ask: Ask) -> None:
    assert "check user, password and rights" in problem(ask(server.address(password=SECRET), topic="there"))
    assert "check user, password and rights" in problem(
        ask(f"{server.kind}://127.0.0.1:{server.port()}", topic="there")
    )


def test_a_log_without_the_topic(server: LogServer, ask: Ask) -> None:
    said = problem(ask(server.address(), topic="elsewhere"))
    assert "elsewhere" in said
    assert "fix the source's topics" in said


def test_a_log_with_which_all_is_well(server: LogServer, ask: Ask) -> None:
    assert ask(server.address(), topic="there") == ()


def test_a_log_whose_clock_is_another(server: LogServer, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    if not isinstance(server, log_servers.Redis):
        return  # the others do not say what time it is
    late = time.time() - 3600
    with monkeypatch.context() as patch:
        patch.setattr("granary.streams.redis.RedisLog.clock", lambda _: late)
        assert "the source's clock is not ours | stranger" in problem(ask(server.address(), topic="there"))


def test_a_reader_of_redis_with_too_few_rights(server: LogServer, ask: Ask) -> None:
    if not isinstance(server, log_servers.Redis):
        return
    server.client.execute_command("ACL", "SETUSER", "stranger", "on", f">{SECRET}", "~elsewhere", "+@all")
    said = problem(ask(server.address(user="stranger", password=SECRET), topic="there"))
    assert "check user, password and rights" in said


def test_a_broker(kafka_server: Broker, ask: Ask) -> None:
    login = f"security.protocol=SASL_PLAINTEXT&sasl.mechanism=PLAIN&sasl.username=u&sasl.password={SECRET}"
    kafka_server.topic("there")
    for address, topic, words in (
        (f"kafka://{AWAY}?{login}", "there", "Kafka does not answer"),
        ("kafka://no-such-host.invalid:9092", "there", "Kafka does not answer"),
        (f"kafka://{kafka_server.hosts}?{login}", "there", "Kafka"),
        (kafka_server.address(), "elsewhere", "Kafka has no topic 'elsewhere'"),
        (f"kafka://{kafka_server.hosts}?sasl.passwort={SECRET}", "there", "Kafka refuses an option"),
    ):
        said = problem(ask(address, topic=topic))
        assert words in said
        assert address.partition("://")[2].partition("?")[0] in said
    assert ask(kafka_server.address(), topic="there") == ()


# -- databases -----------------------------------------------------------------------------------------------------


def test_a_mariadb(ask: Ask) -> None:
    if not (program := mariadb.binary()):
        pytest.skip(f"there is no MariaDB server here: install the Debian package {mariadb.PACKAGE}")
    server = mariadb.start(program)
    try:
        server.run("create table orders (order_id bigint primary key)")
        server.run(f"create user stranger@'127.0.0.1' identified by '{SECRET}'")
        place = f"127.0.0.1:{server.port}/shop"
        for uri, words in (
            (f"mysql://u:{SECRET}@{AWAY}/shop", "cannot connect to the source database"),
            (f"mysql://u:{SECRET}@no-such-host.invalid/shop", "cannot connect to the source database"),
            (f"mysql://owner:{SECRET}@{place}", "Access denied"),
            (f"mysql://stranger:{SECRET}@{place}", "denied"),
            (f"mysql://owner:{server.owner}@127.0.0.1:{server.port}/elsewhere", "elsewhere"),
        ):
            assert words in problem(ask(lambda uri=uri: DatabaseReader(uri), WHOLE))
        uri = f"mysql://owner:{server.owner}@{place}"
        assert "elsewhere" in problem(ask(lambda: DatabaseReader(uri), replace(WHOLE, location="elsewhere")))
        server.run("grant insert on shop.orders to stranger@'127.0.0.1'")
        assert "denied" in problem(ask(lambda: DatabaseReader(f"mysql://stranger:{SECRET}@{place}"), WHOLE))
    finally:
        server.stop()


# -- files ---------------------------------------------------------------------------------------------------------


def test_an_sftp_server(ask: Ask, tmp_path: Any) -> None:
    with sftp_server(tmp_path) as server:
        (server.folder / "out" / "orders").mkdir(parents=True)

        def opened(place: str = server.place(), **more: str) -> Callable[[], Reader]:
            return lambda: FileReader(place, credentials=server.credentials | more)

        for reader, words in (
            (opened(f"sftp://{AWAY}/out"), "it refuses the connection"),
            (opened("sftp://no-such-host.invalid/out"), "its host is not known"),
            (opened(password=SECRET), "the server refuses our credentials"),
            (opened(known_hosts="/dev/null"), "host key is not known"),
            (opened(server.place("elsewhere")), "the landing zone is missing"),
        ):
            said = problem(ask(reader, FILES))
            assert words in said
            assert "sftp://" in said
        (empty,) = ask(opened(), FILES)
        assert (empty.what, empty.severity) == ("there is nothing to load", "hint")
        (server.folder / "out" / "orders" / "a.csv").write_text("order_id\n1\n")
        server.fails = lambda name: name == "open"
        assert "the server refuses our credentials" in problem(ask(opened(), FILES))
        server.fails = lambda _: False
        assert [one for one in ask(opened(), FILES) if one.severity == "problem"] == []


def test_a_bucket(ask: Ask, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def opened(place: str = "s3://landing/stranger", **more: str) -> Callable[[], Reader]:
        address = {"endpoint_url": f"http://127.0.0.1:{store.s3_port}"}
        return lambda: FileReader(place, credentials=store.s3_credentials | address | more)

    for reader, words in (
        (opened(endpoint_url=f"http://{AWAY}"), "it refuses the connection"),
        (opened(endpoint_url="http://no-such-host.invalid"), "its host is not known"),
        (opened(secret=SECRET), "the server refuses our credentials"),
        (opened(key="nobody", secret=SECRET), "the server refuses our credentials"),
        (opened("s3://elsewhere/x"), "the landing zone is missing"),
    ):
        said = problem(ask(reader, FILES))
        assert words in said
        assert "s3://" in said
    now = auth.get_current_datetime
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **more: now(**more) - timedelta(hours=2))
    said = problem(ask(opened(), FILES))
    assert "the server's clock is not ours" in said
    assert "time servers" in said


# -- services ------------------------------------------------------------------------------------------------------


@contextmanager
def service() -> Iterator[dict[str, Any]]:
    """Run a service that answers as it is told."""
    told: dict[str, Any] = {"status": 200, "body": {"data": [{"order_id": 1}]}, "behind": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = told["body"] if isinstance(told["body"], bytes) else json.dumps(told["body"]).encode()
            self.send_response_only(told["status"])
            self.send_header("Date", formatdate(time.time() - told["behind"], usegmt=True))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, ExitStack() as stack:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        told["url"] = f"http://127.0.0.1:{server.server_port}"
        yield told


def test_a_service(ask: Ask) -> None:
    def opened(url: str) -> Callable[[], Reader]:
        api = Api(url, auth=ApiKey("X-Key", SECRET), attempts=1)
        return lambda: RestReader(api, Endpoint("orders"))

    with service() as told:
        for url, words in (
            (f"http://{AWAY}", "it refuses the connection"),
            ("http://no-such-host.invalid", "its host is not known"),
            (told["url"].replace("http:", "https:"), "no secure connection"),
        ):
            said = problem(ask(opened(url), WHOLE))
            assert words in said
            assert url in said
        for more, words in (
            ({"status": 401}, "401"),
            ({"status": 403}, "403"),
            ({"status": 404}, "404"),
            ({"status": 500}, "500"),
            ({"body": b"<html>"}, "JSON"),
            ({"body": {"other": 1}}, "data"),
            ({"body": {"data": [{"other": 1}]}}, "the column order_id is empty, and may not be"),
            ({"behind": 3600}, "the source's clock is not ours"),
        ):
            before = dict(told)
            told.update(more)
            assert words in problem(ask(opened(told["url"]), WHOLE)), more
            told.update(before)
        assert [one for one in ask(opened(told["url"]), WHOLE) if one.severity == "problem"] == []
