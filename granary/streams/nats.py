"""NATS JetStream: the messages of a subject in the order of their stream, with sequence numbers as positions.

Messages are asked for with an ephemeral consumer without acknowledgements, made anew behind our position at every
start: it is a cursor that the server may forget. A position is `SEQUENCE@CREATED`, with the moment at which the stream
was created: one that was deleted and created again under its name is noticed, whatever its sequences are by now.
(https://docs.nats.io/reference/reference-protocols/nats_api_reference)
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from granary.streams.address import hosts, tls
from granary.streams.following import BATCH_BYTES, Following, Part, age, gone
from granary.streams.log import Lag, Message, Run, UnavailableError
from granary.warehouse.errors import GranaryError, missing_package

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from granary.streams.address import Address

PORT = 4222
ANSWER_SECONDS = 10.0
SILENT_SECONDS = 2.0
MOVE_SECONDS = 300.0
"""How often the position moves in a stream in which only other subjects go on: its retention must not overtake us."""
NO_STREAM, NO_CONSUMER, OFF = (10059,), (10014,), (10039, 10076)
UNAVAILABLE = 503
Answer = TypeVar("Answer")


@dataclass
class _Subject(Part):
    """One subject of a stream. Up to sequence `seen` there is nothing that was not received."""

    stream: str = ""
    created: str = ""
    seen: int = 0
    moved_at: float = -MOVE_SECONDS
    consumer: str = ""
    inbox: str = ""
    heard: asyncio.Queue[Any] | None = None
    subscription: Any = None
    taken: int = 0

    def sequence(self) -> int:
        """Return the sequence of the last message that has landed."""
        return int((self.position or "0").partition("@")[0])


class NatsLog(Following[_Subject]):
    """The subjects of one source."""

    kind = "nats"

    def __init__(self, address: Address, topics: Sequence[str]) -> None:
        """Prepare a client; nothing is asked of the server yet.

        Raises:
            GranaryError: nats-py is not installed, or the address is wrong.
        """
        super().__init__()
        try:
            import nats  # noqa: PLC0415 - an extra, and 0.2 s
            from nats.aio.client import Client  # noqa: PLC0415
        except ImportError:
            raise missing_package("NATS", "nats-py", "streams") from None
        self._nats, self._new, self.topics, self._where = nats, Client, list(topics), address.hosts
        options = address.options
        self._options: dict[str, Any] = {
            "servers": [f"nats://{host}:{port}" for host, port in hosts(address, PORT)],
            **{name: options[name] for name in ("user", "password", "token") if name in options},
            "tls": tls(address),
        }
        self._loop = asyncio.new_event_loop()
        self._client: Any = None
        self._denied: str | None = None

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self, work: Coroutine[Any, Any, Answer], seconds: float = 0.0) -> Answer:
        """Let the client work, and say what hinders it.

        Raises:
            GranaryError: the server denies access, or has no such stream.
            UnavailableError: it does not answer.
        """
        errors = self._nats.errors
        if self._loop.is_closed():  # asked after `close`
            self._loop = asyncio.new_event_loop()
        try:
            return self._loop.run_until_complete(asyncio.wait_for(work, seconds + 3 * ANSWER_SECONDS))
        except ssl.SSLError as error:
            self._hang_up()
            raise GranaryError(
                f"NATS: TLS fails: {error.reason or 'no secure connection'}", self._where, "check the log's address"
            ) from None
        except (errors.Error, OSError, asyncio.TimeoutError, json.JSONDecodeError) as error:
            self._hang_up()
            words = str(error).split("\n")[0][:200] or "no answer in time"
            denied = self._denied or (words if "uthorization" in words or "ermissions" in words else None)
            if denied or isinstance(error, errors.SecureConnRequiredError):
                raise GranaryError(
                    f"NATS refuses: {denied or words}", self._where, "check user, password and rights"
                ) from None
            todo = "check the log's address, and that it is up"
            raise UnavailableError(f"NATS does not answer: {words}", self._where, todo) from None

    async def _connect(self) -> Any:
        """Return the connection; one that broke is replaced, with new consumers."""
        if self._client is None or not self._client.is_connected:
            self._denied = None
            client = self._new()
            await client.connect(
                **self._options,
                name="granary",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=int(ANSWER_SECONDS),
                error_cb=self._heard,
                disconnected_cb=self._lost,
            )
            self._client = client
            for part in self.parts.values():
                self.restart(part)
        return self._client

    async def _heard(self, error: Exception) -> None:
        """Keep what the server says aside: a subject that we may not use is told in no other way."""
        words = str(error)
        if "ermissions" in words or "uthorization" in words:
            self._denied = words[:200]

    async def _lost(self) -> None:
        """Wake the readers that wait for messages."""
        for part in self.parts.values():
            if part.heard:
                part.heard.put_nowait(None)

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                self._loop.run_until_complete(asyncio.wait_for(client.close(), ANSWER_SECONDS))
        for part in self.parts.values():
            self.restart(part)

    async def _call(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Call JetStream.

        Raises:
            _NoConsumerError: the server has forgotten a consumer.
            GranaryError: there is no such stream, or no JetStream.
        """
        client = await self._connect()
        request = json.dumps(arguments).encode() if arguments else b""
        answer = await client.request(f"$JS.API.{what}", request, timeout=ANSWER_SECONDS)
        found: dict[str, Any] = json.loads(answer.data)
        error = found.get("error")
        if not error:
            return found
        code, words = error.get("err_code"), str(error.get("description"))[:200]
        if code in NO_CONSUMER:
            raise _NoConsumerError
        if error.get("code") == UNAVAILABLE and code not in OFF:
            raise UnavailableError(f"JetStream does not answer: {words}", self._where, "wait, or look at the server")
        raise GranaryError(
            f"JetStream refuses: {words}",
            what.rpartition(".")[2] if code in NO_STREAM else self._where,
            "check the source's topics and the stream's settings; a work queue has no positions",
        )

    # -- reading ---------------------------------------------------------------------------------------------

    async def _find(self) -> None:
        """Learn which stream holds each subject."""
        for topic in self.topics:
            if any(part.topic == topic for part in self.parts.values()):
                continue
            names = (await self._call("STREAM.NAMES", subject=topic)).get("streams") or []
            if not names:
                raise GranaryError(
                    f"NATS has no stream for the subject {topic!r}",
                    self._where,
                    "create the stream, or fix the source's topics",
                )
            part = self.add(_Subject(topic, f"{topic}[{names[0]}]", stream=names[0]))
            self.restart(part)

    def restart(self, part: _Subject) -> None:
        """Forget what was received of a subject and has not landed; the next poll makes a new consumer."""
        super().restart(part)
        part.seen, part.consumer, part.taken = part.sequence(), "", 0

    def poll(self, rows: int, seconds: float) -> list[Run]:
        """Return what arrives within so many seconds, by subject; or how far nothing is there for a subject.

        Raises:
            GranaryError: messages are gone that were not read, or the server denies access.
            UnavailableError: the server does not answer.
        """
        self._ask(self._find())
        share = max(1, rows // len(self.parts))
        self._ask(self._receive(share, seconds), seconds)
        runs = [part.run(share) or self._moved(part) for part in self.parts.values()]
        return [run for run in runs if run is not None]

    async def _receive(self, rows: int, seconds: float) -> None:
        await self._connect()
        results = await asyncio.gather(
            *(self._fill(part, rows, seconds) for part in self.parts.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _fill(self, part: _Subject, rows: int, seconds: float) -> None:
        """Receive messages of one subject, unless there are some."""
        if part.pending:
            return
        state = await self._state(part)
        try:
            if not part.consumer:
                await self._consume(part)
            empty = await self._pull(part, rows, seconds)
            part.ended = empty and (
                state["last_seq"] <= part.seen
                or (await self._call(f"CONSUMER.INFO.{part.stream}.{part.consumer}"))["num_pending"] == 0
            )
        except _NoConsumerError:
            self.restart(part)
            return
        if part.ended:
            part.waiting, part.seen = 0, max(part.seen, state["last_seq"])

    async def _state(self, part: _Subject) -> dict[str, Any]:
        """Return a stream's state, in which nothing is gone that we have not seen."""
        info = await self._call(f"STREAM.INFO.{part.stream}")
        state: dict[str, Any] = info["state"]
        part.created = str(info["created"]).rstrip("Z")[:23]
        stored = (part.position or "").partition("@")[2]
        if part.position and (
            stored != part.created or state["last_seq"] < part.sequence() or state["first_seq"] > part.seen + 1
        ):
            raise gone(part.partition, part.position)
        return state

    async def _consume(self, part: _Subject) -> str:
        """Make a consumer behind what was seen; return when that was by the server's clock, in ISO 8601."""
        client = await self._connect()
        config = {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": part.seen + 1,
            "ack_policy": "none",
            "filter_subject": part.topic,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60_000_000_000,
        }
        made = await self._call(f"CONSUMER.CREATE.{part.stream}", stream_name=part.stream, config=config)
        part.consumer, part.taken, part.waiting = made["name"], 0, made.get("num_pending")
        heard: asyncio.Queue[Any] = asyncio.Queue()

        async def hear(message: Any) -> None:
            heard.put_nowait(message)

        if part.subscription is not None:
            with suppress(self._nats.errors.Error):  # it was that of an earlier connection
                await part.subscription.unsubscribe()
        part.heard, part.inbox = heard, client.new_inbox()
        part.subscription = await client.subscribe(part.inbox, cb=hear)
        return str(made["created"])

    async def _pull(self, part: _Subject, rows: int, seconds: float) -> bool:
        """Ask for messages once; return whether none came, because there are none."""
        assert part.heard
        client = await self._connect()
        limit = {"max_bytes": BATCH_BYTES}
        for more in (limit, {}):
            request = {"batch": rows if more else 1, "expires": int(seconds * 1e9), **more}
            await client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{part.stream}.{part.consumer}", json.dumps(request).encode(), part.inbox
            )
            left = request["batch"]
            while left:
                try:
                    message = await asyncio.wait_for(part.heard.get(), seconds + SILENT_SECONDS)
                except asyncio.TimeoutError:  # a busy server says nothing of a request that it was too late for
                    raise _NoConsumerError from None
                if message is None:
                    raise self._nats.errors.ConnectionClosedError
                status = (message.headers or {}).get("Status") if not message.data else None
                if status is None:
                    left -= 1
                    self._take(part, message)
                elif status == "100":
                    continue
                elif status in ("404", "408"):
                    return not part.pending
                elif "MaxBytes" in str(message.headers.get("Description")):
                    break  # the next one is larger than that by itself, unless some came before it
                else:  # the consumer was deleted, or its leader is another one now
                    raise _NoConsumerError
            if part.pending:
                break
        return False

    def _take(self, part: _Subject, message: Any) -> None:
        """Keep a message; one that was lost on the way to us is asked for again."""
        about = message.metadata
        if about.sequence.consumer != part.taken + 1:
            raise _NoConsumerError
        part.taken += 1
        part.seen, part.waiting = about.sequence.stream, about.num_pending
        kept = Message(message.data, about.sequence.stream, about.timestamp.timestamp())
        part.pending.append((f"{part.seen}@{part.created}", kept))

    def _moved(self, part: _Subject) -> Run | None:
        """Return a run without messages over those of other subjects, now and then."""
        if not part.ended or part.seen <= part.sequence() or time.monotonic() - part.moved_at < MOVE_SECONDS:
            return None
        part.moved_at = time.monotonic()
        return Run(part.topic, part.partition, part.position, f"{part.seen}@{part.created}", ())

    def look(self, positions: Mapping[str, str]) -> list[Lag]:
        """Return how far these positions are behind, with consumers that are deleted at once."""
        self.open(lambda: positions)
        self._ask(self._find())
        return [self._ask(self._look(part)) for part in self.parts.values()]

    async def _look(self, part: _Subject) -> Lag:
        await self._consume(part)
        waiting = part.waiting
        if waiting:
            await self._pull(part, 1, ANSWER_SECONDS)
        oldest = part.pending[0][1].at if part.pending else 0.0
        return Lag(part.partition, part.position, waiting, age(oldest))

    def clock(self) -> float | None:
        """Return what time it is for the server, in seconds since 1970: when it makes a consumer, it says when."""
        self._ask(self._find())
        return datetime.fromisoformat(self._ask(self._made())[:19] + "+00:00").timestamp()

    async def _made(self) -> str:
        await self._forget()
        return await self._consume(next(iter(self.parts.values())))

    def close(self) -> None:
        """Delete the consumers, as far as that is quick, and leave."""
        if self._client is not None and self._client.is_connected:
            with suppress(GranaryError, _NoConsumerError):
                self._ask(self._forget())
        self._hang_up()
        self._loop.close()

    async def _forget(self) -> None:
        for part in self.parts.values():
            if part.consumer:
                await self._call(f"CONSUMER.DELETE.{part.stream}.{part.consumer}")


class _NoConsumerError(Exception):
    """A consumer is gone, or a message was lost on the way: another one is made behind what was seen."""
