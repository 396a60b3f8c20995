"""Real servers of logs without groups: NATS with JetStream, Redis, RabbitMQ streams; each sends, trims and deletes."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import ssl
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import nats
import pika
import redis

from tests.python.support import rabbitmq
from tests.python.support.certificates import authority, certificate
from tests.python.support.debian import program
from tests.python.support.stream_servers import TOPIC, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PATIENCE_SECONDS = 120
"""What a starved machine may take for an answer."""
Payload = bytes | dict[str, object]


class LogServer(Protocol):
    """What tests ask of a server, whichever kind of log it has."""

    kind: str
    password: str

    def address(self, *, tls: bool = False, port: int | None = None, **options: object) -> str:
        """Return the address that a source's setting holds; by TLS with the authority that signed, or none."""
        ...

    def port(self, *, tls: bool = False) -> int:
        """Return where it listens."""
        ...

    def create(self, topic: str = TOPIC) -> None:
        """Make a topic, anew if it is there."""
        ...

    def delete(self, topic: str = TOPIC) -> None:
        """Delete a topic."""
        ...

    def send(self, *values: Payload, topic: str = TOPIC) -> None:
        """Send messages, and wait until the server has them; objects are written as JSON."""
        ...

    def trim(self, keep: int, topic: str = TOPIC) -> None:
        """Let the server remove all but so many of the newest messages."""
        ...

    def position(self, number: int, topic: str = TOPIC) -> str:
        """Return the position behind so many messages, all of which are there."""
        ...

    def stop(self) -> None:
        """Stop the server and remove its files."""
        ...


def _bytes(value: Payload) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _query(options: dict[str, object]) -> str:
    return "&".join(f"{name}={value}" for name, value in options.items() if value is not None)


@dataclass
class _Process:
    """A server process in a folder of its own, with certificates of an authority of its own."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="granary-log-", dir="/tmp")))
    password: str = field(default_factory=secrets.token_hex, repr=False)
    process: subprocess.Popen[bytes] | None = None

    def certify(self) -> None:
        authority(self.folder)
        certificate(self.folder, "server", "localhost", "DNS:localhost,IP:127.0.0.1")

    def begin(self, command: Sequence[str], answers: Callable[[], object]) -> None:
        with (self.folder / "out").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        process = self.process

        def ready() -> bool:
            assert process.poll() is None, (self.folder / "out").read_text()[-2000:]
            try:
                answers()
            except Exception:
                return False
            return True

        wait_until(ready, what="the server's start")

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self.process:
            self.process.terminate()
            self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


class Nats(_Process):
    """NATS with JetStream; TLS is on a server of its own, since it is for all clients or none."""

    kind = "nats"

    def __init__(self, found: str, *, tls: bool = False) -> None:
        super().__init__()
        self._port = free_port()
        self._found, self._tls, self._twin = found, tls, None
        self.certify()
        secure = f'tls {{ cert_file: "{self.folder}/server.crt", key_file: "{self.folder}/server.key" }}\n'
        (self.folder / "server.conf").write_text(
            f'listen: "127.0.0.1:{self._port}"\n'
            f'jetstream {{ store_dir: "{self.folder}/data", max_file_store: 1GB }}\nmax_payload: 32MB\n'
            f'authorization {{ users: [{{ user: "owner", password: "{self.password}" }}] }}\n{secure if tls else ""}'
        )
        self.begin([found, "-c", str(self.folder / "server.conf")], lambda: self.run(lambda js: js.account_info()))

    def port(self, *, tls: bool = False) -> int:
        return self._secure()._port if tls else self._port

    def _secure(self) -> Nats:
        if self._twin is None:
            self._twin = Nats(self._found, tls=True)
        return self._twin

    def address(self, *, tls: bool = False, port: int | None = None, **options: object) -> str:
        server = self._secure() if tls else self
        more = {"user": "owner", "password": server.password} | options
        if tls:
            more = {"tls": "true", "ca": server.folder / "ca.crt"} | more
        return f"nats://127.0.0.1:{port or server._port}?{_query(more)}"

    def run(self, work: Callable[[Any], Any]) -> Any:
        """Let JetStream's client do something."""

        async def quiet(_: Exception) -> None:
            """Say nothing."""

        async def go() -> Any:
            context = ssl.create_default_context(cafile=str(self.folder / "ca.crt")) if self._tls else None
            url = f"nats://127.0.0.1:{self._port}"
            client = await nats.connect(
                url,
                user="owner",
                password=self.password,
                tls=context,
                connect_timeout=PATIENCE_SECONDS,
                allow_reconnect=False,
                error_cb=quiet,
            )
            try:
                return await work(client.jetstream(timeout=PATIENCE_SECONDS))
            finally:
                await client.close()

        return asyncio.run(go())

    def create(self, topic: str = TOPIC, subjects: Sequence[str] = ()) -> None:
        self.delete(topic)
        self.run(lambda js: js.add_stream(name=topic, subjects=list(subjects) or [topic]))

    def delete(self, topic: str = TOPIC) -> None:
        async def work(js: Any) -> None:
            try:
                await js.delete_stream(topic)
            except nats.js.errors.NotFoundError:
                return

        self.run(work)

    def send(self, *values: Payload, topic: str = TOPIC, ids: Iterable[str] = ()) -> None:
        named = list(ids)

        async def work(js: Any) -> None:
            for start in range(0, len(values), 500):
                some = values[start : start + 500]
                names = named[start : start + 500]
                await asyncio.gather(
                    *(
                        js.publish(topic, _bytes(value), headers={"Nats-Msg-Id": names[i]} if names else None)
                        for i, value in enumerate(some)
                    )
                )

        self.run(work)

    def trim(self, keep: int, topic: str = TOPIC) -> None:
        self.run(lambda js: js.purge_stream(topic, keep=keep))

    def position(self, number: int, topic: str = TOPIC) -> str:
        async def created(js: Any) -> str:
            answer = await js._nc.request(f"$JS.API.STREAM.INFO.{topic}", b"")
            return str(json.loads(answer.data)["created"]).rstrip("Z")[:23]

        return f"{number}@{self.run(created)}"

    def stop(self) -> None:
        if self._twin:
            self._twin.stop()
        super().stop()


class Redis(_Process):
    """Redis, with a password, and a second port for TLS."""

    kind = "redis"

    def __init__(self, found: str) -> None:
        super().__init__()
        self.certify()
        self._ports = free_port(), free_port()
        options = {
            "port": self._ports[0], "tls-port": self._ports[1], "bind": "127.0.0.1", "requirepass": self.password,
            "tls-cert-file": self.folder / "server.crt", "tls-key-file": self.folder / "server.key",
            "tls-ca-cert-file": self.folder / "ca.crt", "tls-auth-clients": "no", "save": '""', "dir": self.folder,
        }  # fmt: skip
        (self.folder / "server.conf").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        self.client = redis.Redis(port=self._ports[0], password=self.password)
        self.begin([found, str(self.folder / "server.conf")], self.client.ping)

    def port(self, *, tls: bool = False) -> int:
        return self._ports[tls]

    def address(self, *, tls: bool = False, port: int | None = None, **options: object) -> str:
        more: dict[str, object] = {"tls": "true", "ca": self.folder / "ca.crt"} if tls else {}
        more |= {"password": self.password} | options
        return f"redis://127.0.0.1:{port or self._ports[tls]}?{_query(more)}"

    def create(self, topic: str = TOPIC) -> None:
        self.delete(topic)
        self.client.xgroup_create(topic, "maker", mkstream=True)
        self.client.xgroup_destroy(topic, "maker")

    def delete(self, topic: str = TOPIC) -> None:
        self.client.delete(topic)

    def send(self, *values: Payload, topic: str = TOPIC) -> None:
        with self.client.pipeline(transaction=False) as pipeline:
            for value in values:
                pipeline.xadd(topic, {"message": _bytes(value)})
            pipeline.execute()

    def trim(self, keep: int, topic: str = TOPIC) -> None:
        self.client.xtrim(topic, maxlen=keep, approximate=False)

    def position(self, number: int, topic: str = TOPIC) -> str:
        return f"{self.client.xrange(topic, count=number)[-1][0].decode()}/{number}"

    def stop(self) -> None:
        self.client.close()
        super().stop()


class Rabbit:
    """RabbitMQ, with queues of the type stream."""

    kind = "rabbitmq-stream"

    def __init__(self, found: Path) -> None:
        self.server = rabbitmq.start(found)
        self.password = self.server.password
        self.connection = self.server.connect()

    def port(self, *, tls: bool = False) -> int:
        return self.server.ports[tls]

    def address(self, *, tls: bool = False, port: int | None = None, **options: object) -> str:
        more: dict[str, object] = {"tls": "true", "ca": self.server.authority} if tls else {}
        more |= {"user": "owner", "password": self.password} | options
        return f"rabbitmq-stream://127.0.0.1:{port or self.port(tls=tls)}?{_query(more)}"

    def _channel(self) -> Any:
        try:
            self.connection.process_data_events(0)
            return self.connection.channel()
        except pika.exceptions.AMQPError:  # it was left alone for too long
            self.connection = self.server.connect()
            return self.connection.channel()

    def create(self, topic: str = TOPIC, **arguments: object) -> None:
        self.delete(topic)
        kind = {"x-queue-type": "stream"} | {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        self._channel().queue_declare(topic, durable=True, arguments=kind)

    def delete(self, topic: str = TOPIC) -> None:
        self._channel().queue_delete(topic)

    def send(self, *values: Payload, topic: str = TOPIC) -> None:
        *most, last = values
        channel = self._channel()
        channel.tx_select()
        for value in most:
            channel.basic_publish("", topic, _bytes(value))
        channel.tx_commit()
        channel.close()
        channel = self._channel()
        channel.confirm_delivery()  # a transaction ends before its messages are in the stream
        channel.basic_publish("", topic, _bytes(last))
        channel.close()

    def trim(self, keep: int, topic: str = TOPIC) -> None:
        raise NotImplementedError("a stream of RabbitMQ loses whole segments, as it grows")

    def first(self, topic: str = TOPIC) -> int:
        """Return the offset of the first message that is there, or -1 if it does not come: its segment may just go."""
        found: list[int] = []
        connection = self.server.connect()
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(
            topic,
            lambda _, __, about, ___: found.append(int(about.headers["x-stream-offset"])),
            arguments={"x-stream-offset": "first"},
        )
        connection.process_data_events(2)
        with suppress(pika.exceptions.AMQPError):  # pika rejects what comes while it closes, which no stream takes
            connection.close()
        return min(found, default=-1)

    def position(self, number: int, topic: str = TOPIC) -> str:
        del topic
        return str(number)

    def stop(self) -> None:
        self.server.stop()  # which ends the connection, too


def start(kind: str) -> LogServer | None:
    """Start a server of a kind; None where there is no program for it."""
    if kind == "rabbitmq-stream":
        place = rabbitmq.program()
        return Rabbit(place) if place else None
    found = program(f"{kind}-server", f"{kind}-server")
    if found is None:
        return None
    return Nats(found) if kind == "nats" else Redis(found)
