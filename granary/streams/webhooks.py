"""`granary serve-webhooks`: POST /<source>/<table> with one event or a list of events, signed; or with CloudEvents."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.load.contract import ContractBrokenError, conform, shape
from granary.load.json_objects import from_rows
from granary.sources.config import setting
from granary.sources.discovery import SOURCES
from granary.sources.units import Rejected, SourceBatch
from granary.streams import cloudevents, signatures
from granary.streams.decoding import UnfitError, parse_json, payload
from granary.streams.receiving import BusyError, Delivery, Receiver, RefusedError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from granary.sources.spec import Source, Table
    from granary.warehouse.settings import Settings

MAX_BYTES = 1_048_576
MAX_EVENTS = 5_000
BODY_SECONDS, LAND_SECONDS = 10.0, 30.0
CONCURRENT = 1_000
SERVER_CLOSES_SECONDS = 15
BACKLOG = 1_024
BODIES_BYTES = 64 * 1_048_576
"""Bytes of all bodies together that are read and not answered yet."""
NOT_THERE = "there is no such source and table to post to"
LONGEST_LENGTH = 15
"""Digits of a body's declared length; Python takes long for thousands of them, or refuses."""


class Answer(Exception):  # noqa: N818 - it is how a request ends, good or bad
    """How a request ends: its status and what the sender is told."""

    def __init__(self, status: int, **body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


class NoRoomError(Exception):
    """Too much is being read at once."""


class Room:
    """The bytes that all requests together may hold while they are read and answered."""

    def __init__(self, size: int = BODIES_BYTES) -> None:
        self.left = size

    def take(self, size: int) -> None:
        """Take so many bytes.

        Raises:
            NoRoomError: there are not as many left.
        """
        if size > self.left:
            raise NoRoomError
        self.left -= size

    def give_back(self, size: int) -> None:
        """Give so many bytes back."""
        self.left += size


@dataclass(frozen=True)
class Endpoint:
    """What receives the events of one table."""

    source: Source
    table: Table
    secrets: tuple[str, ...]
    receiver: Receiver


def endpoints(settings: Settings) -> dict[tuple[str, str], Endpoint]:
    """Return what can be posted to: the streaming tables of each source whose secrets are set.

    Raises:
        GranaryError: no source has its secrets set, or one can be guessed.
    """
    found: dict[tuple[str, str], Endpoint] = {}
    missing: list[str] = []
    for source in SOURCES.values():
        if source.stream is None or source.stream.envelope:
            continue
        try:
            text = setting(settings, source.stream.secrets)
        except GranaryError as error:
            missing.append(str(error))
            continue
        secrets = signatures.secrets_of(text, source.stream.secrets)
        receiver = Receiver(settings, source)
        for name in source.stream.topics:
            found[source.name, name] = Endpoint(source, source.table(name), secrets, receiver)
    if not found:
        raise GranaryError(
            "no source has its webhook secrets set", todo="; ".join(missing) or "add a source that streams"
        )
    return found


def application(known: Mapping[tuple[str, str], Endpoint], max_bytes: int = MAX_BYTES) -> Starlette:
    """Return the web application that answers for these endpoints."""
    from starlette.applications import Starlette  # noqa: PLC0415 - 0.2 s, and only this command needs it
    from starlette.responses import JSONResponse  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    room = Room()

    async def post(request: Request) -> Response:
        reading = Reading(room, max_bytes)
        try:
            await _receive(request, known, reading)
        except Answer as answer:
            headers = {"Retry-After": "1"} if answer.status == 503 else {}  # noqa: PLR2004 - Service Unavailable
            return JSONResponse(answer.body, answer.status, headers)
        finally:
            room.give_back(reading.taken)
        raise RuntimeError("a request was not answered")

    async def options(request: Request) -> Response:
        if (request.path_params["source"], request.path_params["table"]) not in known:
            return JSONResponse({"error": NOT_THERE}, 404)
        try:
            return JSONResponse({}, 200, cloudevents.handshake(request.headers))
        except UnfitError as error:
            return JSONResponse({"error": str(error)}, 400)

    async def health(request: Request) -> Response:
        del request
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/{source}/{table}", post, methods=["POST"]),
            Route("/{source}/{table}", options, methods=["OPTIONS"]),
        ]
    )


@dataclass
class Reading:
    """How much of the room a request has taken, and how large its body may be."""

    room: Room
    max_bytes: int
    taken: int = 0

    def take(self, size: int) -> None:
        """Take the room of some bytes more.

        Raises:
            Answer: the body is too large, or too much is being read at once.
        """
        if self.taken + size > self.max_bytes:
            raise Answer(413, error=f"the body is larger than {self.max_bytes:,} bytes")
        try:
            self.room.take(size)
        except NoRoomError:
            raise Answer(503, error="too much is being received at once: send it again") from None
        self.taken += size


async def _receive(request: Request, known: Mapping[tuple[str, str], Endpoint], reading: Reading) -> None:
    """Check, decode and land one request; ends with an Answer in every case."""
    endpoint = known.get((request.path_params["source"], request.path_params["table"]))
    if endpoint is None:
        raise Answer(404, error=NOT_THERE)
    try:
        mode = cloudevents.mode_of(request.headers)
    except cloudevents.UnsupportedError as error:
        raise Answer(415, error=str(error)) from None
    key = request.headers.get("Idempotency-Key")
    if key is not None and not signatures.KEY.fullmatch(key):
        raise Answer(
            400, error="the Idempotency-Key has to be 1 to 200 letters, digits, dots, colons, dashes or underscores"
        )
    if key is None and not endpoint.table.key and mode not in ("structured", "binary"):
        raise Answer(400, error="events of this table have no id of their own: send an Idempotency-Key")
    body = await _body(request, reading)
    try:
        _verify(endpoint, request, body, key, mode)
    except signatures.NotSignedError as error:
        raise Answer(401, error=str(error)) from None
    source_batch, refused, status, own = decode(endpoint.table, body, mode, request.headers)
    key = key or (own if not endpoint.table.key else None)
    delivery = Delivery(endpoint.table, source_batch, key, hashlib.sha256(body).hexdigest())
    outcome = await _landed(endpoint.receiver, delivery)
    if outcome == "conflict":
        raise Answer(422, error="this Idempotency-Key was used with another body")
    raise Answer(
        status, accepted=source_batch.rows - len(refused), duplicate=outcome == "duplicate", quarantined=refused
    )


def _verify(endpoint: Endpoint, request: Request, body: bytes, key: str | None, mode: cloudevents.Mode | None) -> None:
    """Check who sends; CloudEvents may bring a secret as their token, and those in binary mode have to.

    Raises:
        NotSignedError: nobody who knows a secret.
    """
    token = request.headers.get("Authorization")
    if mode is not None and token is not None:
        signatures.verify_token(endpoint.secrets, token)
    elif mode == "binary":
        raise signatures.NotSignedError(
            "a CloudEvent in binary mode needs Authorization: Bearer: its attributes are headers, which nobody signs"
        )
    else:
        signatures.verify(endpoint.secrets, request.headers.get(signatures.HEADER), body, time.time(), key)


async def _body(request: Request, reading: Reading) -> bytes:
    """Read the body, but no more of it than may be."""
    declared = request.headers.get("Content-Length", "0")
    if declared.isdecimal() and (len(declared) > LONGEST_LENGTH or int(declared) > reading.max_bytes):
        raise Answer(413, error=f"the body is larger than {reading.max_bytes:,} bytes")
    try:
        return await asyncio.wait_for(_read(request, reading), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise Answer(408, error=f"the body did not arrive within {BODY_SECONDS:g} s") from None


async def _read(request: Request, reading: Reading) -> bytes:
    parts: list[bytes] = []
    async for part in request.stream():
        reading.take(len(part))
        parts.append(part)
    return b"".join(parts)


async def _landed(receiver: Receiver, delivery: Delivery) -> str:
    """Wait until a delivery is committed."""
    try:
        receiver.put(delivery)
        return await asyncio.wait_for(asyncio.wrap_future(delivery.outcome), LAND_SECONDS)
    except (BusyError, asyncio.TimeoutError):
        # It may land all the same; the event's id or the key makes sending it again harmless.
        raise Answer(503, error="the warehouse cannot take it now: send it again") from None
    except RefusedError as error:
        raise Answer(422, error=f"the events do not fit the table: {error}") from None


def decode(
    table: Table, body: bytes, mode: cloudevents.Mode | None = None, headers: Mapping[str, str] | None = None
) -> tuple[SourceBatch, list[dict[str, Any]], int, str | None]:
    """Return a body's events, what the sender is told of those that are refused, the status, and a CloudEvent's key.

    What is signed but no JSON goes to the quarantine too: the sender may never send it again.
    """
    own = None
    try:
        if mode is None:
            found = parse_json(body)
            events = found if isinstance(found, list) else [found]
        else:
            events = cloudevents.rows(mode, headers or {}, body, table)
            own = cloudevents.key_of(events[0]) if mode != "batched" else None
    except UnfitError as error:
        source_batch = from_rows(table, [])
        rejected = Rejected("", str(error), payload(body))
        return SourceBatch(source_batch.batch, ((0, rejected),)), [_refused_event(0, "", str(error))], 400, own
    if not events and mode == "batched":  # which the specification allows
        raise Answer(202, accepted=0, duplicate=False, quarantined=[])
    if not events:
        raise Answer(400, error="the list has no events")
    if len(events) > MAX_EVENTS:
        raise Answer(413, error=f"the list has more than {MAX_EVENTS:,} events")
    source_batch = from_rows(table, events)
    try:
        shaped = shape(table, source_batch.batch.schema, f"webhook for {table.name}")
        _, _, refusals = conform(table, shaped, source_batch, 0)
    except ContractBrokenError as error:
        raise Answer(422, error=error.what) from None
    refused = [_refused_event(refusal.row, refusal.column, refusal.reason) for refusal in refusals]
    return source_batch, refused, 422 if len(refused) == len(events) else 202, own


def _refused_event(index: int, column: str, why: str) -> dict[str, Any]:
    return {"index": index, "column": column, "reason": why}


def serve(settings: Settings, host: str, port: int, ready: Callable[[str], None], max_bytes: int = MAX_BYTES) -> None:
    """Answer until SIGINT or SIGTERM; then finish the requests that are under way. Port 0 takes a free one.

    Args:
        settings: the warehouse.
        host: the address to listen on.
        port: the port to listen on.
        ready: called with the server's URL once it listens.
        max_bytes: the largest body.

    Raises:
        GranaryError: no secrets are set, or the address cannot be had.
    """
    import uvicorn  # noqa: PLC0415 - 0.2 s, and only this command needs it

    from granary.streams.guarding import HEAD_BYTES, GuardedProtocol  # noqa: PLC0415

    known = endpoints(settings)
    config = uvicorn.Config(
        application(known, max_bytes),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONCURRENT,
        http=GuardedProtocol,
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws="none",
        timeout_graceful_shutdown=SERVER_CLOSES_SECONDS,
    )
    listening = _listen(config)
    try:
        address, number = listening.getsockname()[:2]
        ready(f"http://{f'[{address}]' if ':' in address else address}:{number}")
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        for receiver in {id(endpoint.receiver): endpoint.receiver for endpoint in known.values()}.values():
            receiver.close()


def _listen(config: Any) -> Any:
    import socket  # noqa: PLC0415 - beside uvicorn

    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.host, config.port))
        listening.listen(BACKLOG)  # from now on, so that a request that comes before the server runs waits for it
    except OSError as error:
        listening.close()
        raise GranaryError(
            f"cannot listen: {error.strerror}", f"{config.host}:{config.port}", "choose another --port"
        ) from None
    return listening
