"""Addresses of logs and queues: one setting says which, how its messages are written, and how to reach it.

kafka://broker-1:9092,broker-2:9092?security.protocol=SASL_SSL&sasl.mechanism=PLAIN&sasl.username=u&sasl.password=p
kafka://broker:9092?format=avro&registry=https://user:password@registry:8081
kinesis://eu-central-1?endpoint=http://127.0.0.1:5000
nats://server-1:4222,server-2:4222?user=u&password=p
redis://server:6379?user=u&password=p&tls=true
rabbitmq-stream://server-1:5672,server-2:5672?user=u&password=p&vhost=shop
rabbitmq://server-1:5672,server-2:5672?user=u&password=p&vhost=shop
sqs://eu-central-1
pubsub://project-id
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlsplit

from granary.streams.kinds import KINDS
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = ("format", "registry", "group", "endpoint", "max_bytes")
Format = Literal["json", "avro", "protobuf", "jsonschema"]
FORMATS: tuple[Format, ...] = ("json", "avro", "protobuf", "jsonschema")
"""How messages are written; all but the first with a schema of a registry."""
MAX_BYTES = 1_048_576
"""A message larger than this is quarantined: the default limit of a Kafka broker."""


@dataclass(frozen=True)
class Address:
    """A parsed address. `options` go to the client as they are; they and the registry's URL may hold secrets."""

    kind: str
    hosts: str
    format: Format = "json"
    registry: str = field(default="", repr=False)
    group: str = ""
    endpoint: str = ""
    max_bytes: int = MAX_BYTES
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse(text: str, name: str) -> Address:
    """Parse the address that the setting `name` holds; no error shows any of it but the scheme.

    Raises:
        GranaryError: it is not an address of a log or a queue.
    """

    def wrong(what: str) -> GranaryError:
        return GranaryError(f"{name} {what}", todo=f"write {'://…, '.join(KINDS)}://…; see `granary guide`")

    parts = urlsplit(text)
    if parts.scheme not in KINDS:
        raise wrong("is not an address of a log")
    if not parts.netloc or parts.path not in ("", "/") or "@" in parts.netloc:
        raise wrong("names no host, or more than hosts (credentials are options)")
    # A plus sign is one: passwords have them, and these addresses are written by hand, not by a form.
    options = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))
    mine = {key: options.pop(key) for key in OURS if key in options}
    written = mine.get("format", "json")
    format_ = next((one for one in FORMATS if one == written), None)
    if format_ is None:
        raise wrong(f"has a format that is none of {', '.join(FORMATS)}")
    has_own = parts.scheme == "pubsub" and format_ != "jsonschema"
    if format_ != "json" and not mine.get("registry") and not has_own:
        raise wrong(f"wants the format {format_} and names no registry")
    known = KINDS[parts.scheme].options
    if known is not None and (strange := options.keys() - set(known)):
        there = ", ".join((*OURS, *known))
        raise wrong(f"has the option {min(strange)}, which {parts.scheme} has not; there are {there}")
    if known and options.get("tls", "true") not in ("true", "false"):
        raise wrong("has a tls that is neither true nor false")
    size = mine.get("max_bytes", str(MAX_BYTES))
    if not size.isdecimal() or int(size) < 1:
        raise wrong("has a max_bytes that is not a number")
    return Address(
        kind=parts.scheme,
        hosts=parts.netloc,
        format=format_,
        registry=mine.get("registry", ""),
        group=mine.get("group", ""),
        endpoint=mine.get("endpoint", ""),
        max_bytes=int(size),
        options=options,
    )


def hosts(address: Address, port: int) -> list[tuple[str, int]]:
    """Return the hosts of an address with their ports.

    Raises:
        GranaryError: a port is not a number.
    """
    found = []
    for host in address.hosts.split(","):
        parts = urlsplit(f"//{host}")
        try:
            found.append((parts.hostname or "", parts.port or port))
        except ValueError:
            raise GranaryError("the port of a log's host is not a number", host, "fix the log's address") from None
    return found


def tls(address: Address) -> ssl.SSLContext | None:
    """Return how to encrypt, or None for an address without TLS; a certificate of our own is `certificate` and `key`.

    Raises:
        GranaryError: a file of certificates cannot be read.
    """
    options = address.options
    files = options.get("ca") or options.get("certificate")
    if options.get("tls", "true" if files else "false") == "false":
        return None
    try:
        context = ssl.create_default_context(cafile=options.get("ca") or None)
        if options.get("certificate"):
            context.load_cert_chain(options["certificate"], options.get("key") or None)
    except OSError as error:
        raise GranaryError(
            f"the certificates of the log's address cannot be read: {error.strerror or 'not PEM'}",
            address.hosts,
            "fix ca, certificate or key in it",
        ) from None
    return context
