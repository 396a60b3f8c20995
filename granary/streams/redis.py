"""Redis Streams: the entries of a key in the order of their ids, without a consumer group.

A position is `ID/COUNT`: the id of the last entry that has landed, and how many had ever been added up to it. The count
tells whether entries were trimmed that we have not read, and is the line under which a message is quarantined. Redis
counts what is added to a stream since version 7 (https://redis.io/docs/latest/commands/xinfo-stream/).
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.streams.address import hosts, tls
from granary.streams.following import BATCH_BYTES, Following, Part, age, gone
from granary.streams.log import Lag, Message, Run, UnavailableError
from granary.warehouse.errors import GranaryError, missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from granary.streams.address import Address

PORT = 6379
ANSWER_SECONDS = 10.0
MAX_ENTRIES = 500
"""Most entries of one answer; fewer of large ones."""
GATHER_SECONDS = 0.02
A_TIME = 100_000_000_000
"""An id below was given by the sender and says nothing of time: in milliseconds since 1970 this is 1973."""


@dataclass
class _Key(Part):
    """One stream, received up to the id `last`, the `count`th that was added to it."""

    last: tuple[int, int] = (0, 0)
    count: int = 0
    entries: int = MAX_ENTRIES


class RedisLog(Following[_Key]):
    """The streams of one source."""

    kind = "redis"

    def __init__(self, address: Address, topics: Sequence[str]) -> None:
        """Prepare a client; nothing is asked of the server yet.

        Raises:
            GranaryError: the package redis is not installed, or the address is wrong.
        """
        super().__init__()
        try:
            import redis  # noqa: PLC0415 - an extra, and 0.2 s
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError:
            raise missing_package("Redis", "redis", "streams") from None
        options = address.options
        if not options.get("db", "0").isdecimal():
            raise GranaryError("the db of the log's address is not a number", todo="fix the log's address")
        self._errors, self.topics, self._where = redis.exceptions, list(topics), address.hosts
        self._field, self._group = options.get("field", "").encode(), address.group
        (host, port), *others = hosts(address, PORT)
        if others:
            raise GranaryError("the log's address names several hosts, and Redis is one", todo="fix the log's address")
        secure: dict[str, Any] = {}
        if tls(address):
            files = {"ssl_ca_certs": "ca", "ssl_certfile": "certificate", "ssl_keyfile": "key"}
            secure = {name: options.get(option) or None for name, option in files.items()} | {"ssl": True}
        self._client = redis.Redis(
            host=host,
            port=port,
            db=int(options.get("db", "0")),
            username=options.get("user"),
            password=options.get("password"),
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            client_name="granary",
            **secure,
        )

    def _ask(self, what: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Call the server.

        Raises:
            GranaryError: it denies access, or a key holds no stream.
            UnavailableError: it does not answer.
        """
        errors = self._errors
        try:
            return what(*arguments, **more)
        except (errors.AuthenticationError, errors.AuthorizationError, errors.ResponseError) as error:
            raise self._refusal(error) from None
        except errors.RedisError as error:
            words = re.sub(r"^Error -?\d+ connecting to \S+ ", "", str(error))[:200]
            if "SSL" in words and "refused" not in words:
                raise GranaryError(f"Redis: TLS fails: {words}", self._where, "check the log's address") from None
            todo = "check the log's address, and that it is up"
            raise UnavailableError(f"Redis does not answer: {words}", self._where, todo) from None

    def _refusal(self, error: Exception, where: str = "") -> GranaryError:
        """Return what the server refuses, without the words of a command, which may be secret."""
        words = str(error)
        passing = ("LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "max number of clients")
        if any(word in words for word in passing):
            return UnavailableError(f"Redis does not answer: {words[:200]}", self._where, "wait, or look at the server")
        if "no such key" in words:
            return GranaryError(f"Redis has no stream {where!r}", self._where, "create it, or fix the source's topics")
        if "WRONGTYPE" in words:
            return GranaryError(f"the key {where!r} holds no stream", self._where, "fix the source's topics")
        return GranaryError(f"Redis refuses: {words[:200]}", self._where, "check user, password and rights")

    # -- reading ---------------------------------------------------------------------------------------------

    def _find(self) -> None:
        if not self.parts:
            for topic in self.topics:
                self.restart(self.add(_Key(topic, f"{topic}[0]")))

    def restart(self, part: _Key) -> None:
        """Forget what was received of a stream and has not landed."""
        super().restart(part)
        last, _, count = (part.position or "0-0/0").partition("/")
        part.last, part.count = _id(last), int(count)

    def poll(self, rows: int, seconds: float) -> list[Run]:
        """Return what arrives within so many seconds, by stream.

        Raises:
            GranaryError: entries are gone that were not read, or the server denies access.
            UnavailableError: the server does not answer.
        """
        self._find()
        ends = time.monotonic() + seconds
        share = max(1, rows // len(self.parts))
        try:
            while True:
                for part in self.parts.values():
                    while self._fill(part, share):
                        pass
                left = ends - time.monotonic()
                if left <= 0 or any(len(part.pending) >= share for part in self.parts.values()):
                    break
                self._await(left)
        except UnavailableError:
            for part in self.parts.values():
                self.restart(part)
            raise
        return [run for part in self.parts.values() if (run := part.run(share)) is not None]

    def _await(self, seconds: float) -> None:
        """Wait until an entry comes to any stream; what comes is read with its stream's state, not here."""
        behind = {part.topic: _text(part.last) for part in self.parts.values()}
        if self._ask(self._client.xread, behind, count=1, block=max(1, int(seconds * 1000))):
            time.sleep(min(seconds, GATHER_SECONDS))

    def _fill(self, part: _Key, rows: int) -> bool:
        """Receive entries, and learn of the stream's state at that moment; return whether there are more at once."""
        wanted = min(rows - len(part.pending), part.entries)
        if wanted <= 0:
            return False
        state, entries = self._read(part, wanted)
        added, length = int(state["entries-added"]), int(state["length"])
        self._complete(part, state, added, length)
        if part.position is None and not part.pending and not part.count:
            part.count = added - length
        size = 0
        for name, fields in entries:
            part.last, part.count = _id(name), part.count + 1
            if part.last == _id(state["last-generated-id"]):
                part.count = added  # what was deleted in between counts, too
            value = _value(fields, self._field)
            size += len(value)
            at = part.last[0] / 1000 if part.last[0] > A_TIME else 0.0
            part.pending.append((f"{_text(part.last)}/{part.count}", Message(value, part.count, at)))
        part.entries = max(1, part.entries // 2) if size > BATCH_BYTES else min(MAX_ENTRIES, part.entries * 2)
        part.ended = len(entries) < wanted
        part.waiting = 0 if part.ended else max(0, added - part.count)
        return not part.ended and size < BATCH_BYTES

    def _read(self, part: _Key, entries: int) -> tuple[dict[str, Any], list[Any]]:
        """Return a stream's state and its next entries, both of one moment."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xinfo_stream(part.topic)
        pipeline.xrange(part.topic, min=f"({_text(part.last)}", count=entries)
        state, found = self._ask(pipeline.execute, raise_on_error=False)
        for answer in (state, found):
            if isinstance(answer, Exception):
                raise self._refusal(answer, part.topic)
        if "entries-added" not in state:
            raise GranaryError(
                "this Redis is older than version 7", self._where, "upgrade it: it does not count entries"
            )
        return state, found

    def _complete(self, part: _Key, state: dict[str, Any], added: int, length: int) -> None:
        """Make sure that nothing is gone which was not received.

        While our last entry or one before it is there, nothing behind it was trimmed. When all those are gone, as many
        must be there as were added since.
        """
        if part.last == (0, 0):
            return
        first = state["first-entry"]
        trimmed = first is None or _id(first[0]) > part.last
        again = added < part.count or _id(state["last-generated-id"]) < part.last
        if again or (trimmed and added - part.count != length):
            raise gone(part.partition, part.position)

    def landed(self, runs: Sequence[Run]) -> None:
        """Begin the next runs behind these, and move the group that watches us, if the address names one."""
        super().landed(runs)
        if self._group:
            for run in runs:
                name, _, count = run.end.partition("/")
                with suppress(self._errors.RedisError):  # only tools that show the lag would miss it
                    self._tell(run.topic, name, int(count))

    def _tell(self, topic: str, name: str, count: int) -> None:
        try:
            self._client.xgroup_setid(topic, self._group, name, entries_read=count)
        except self._errors.ResponseError:  # there is no such group yet
            self._client.xgroup_create(topic, self._group, name, entries_read=count)

    def look(self, positions: Mapping[str, str]) -> list[Lag]:
        """Return how far these positions are behind, without reading on from them."""
        self.open(lambda: positions)
        self._find()
        lags = []
        for part in self.parts.values():
            state, entries = self._read(part, 1)
            added, length = int(state["entries-added"]), int(state["length"])
            waiting = 0 if not entries else length if part.position is None else max(1, added - part.count)
            oldest = _id(entries[0][0])[0] if entries else 0
            lags.append(Lag(part.partition, part.position, waiting, age(oldest / 1000 if oldest > A_TIME else 0.0)))
        return lags

    def clock(self) -> float | None:
        """Return what time it is for the server, in seconds since 1970."""
        seconds, microseconds = self._ask(self._client.time)
        return float(seconds) + float(microseconds) / 1_000_000

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _id(name: bytes | str) -> tuple[int, int]:
    text = name.decode() if isinstance(name, bytes) else name
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number or 0)


def _text(name: tuple[int, int]) -> str:
    return f"{name[0]}-{name[1]}"


def _value(fields: Mapping[bytes, bytes], field: bytes) -> bytes:
    """Return an entry's message: the field that the address names, else its only field, else all as an object."""
    if field in fields:
        return fields[field]
    if len(fields) == 1 and not field:
        return next(iter(fields.values()))
    try:
        return json.dumps({name.decode(): value.decode() for name, value in fields.items()}).encode()
    except UnicodeDecodeError:
        return b"\0".join(part for pair in fields.items() for part in pair)
