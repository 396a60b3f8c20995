"""Addresses of logs: one setting says which log, how its messages are written, and how to reach it.

kafka://broker-1:9092,broker-2:9092?security.protocol=SASL_SSL&sasl.mechanism=PLAIN&sasl.username=u&sasl.password=p
kafka://broker:9092?format=avro&registry=https://user:password@registry:8081
kinesis://eu-central-1?endpoint=http://127.0.0.1:5000
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlsplit

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

    kind: Literal["kafka", "kinesis"]
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
        GranaryError: it is not an address of a log.
    """

    def wrong(what: str) -> GranaryError:
        return GranaryError(
            f"{name} {what}", todo="write kafka://host:port?… or kinesis://region?…; see docs/engine/sources"
        )

    parts = urlsplit(text)
    if parts.scheme not in ("kafka", "kinesis"):
        raise wrong("is not an address of a log")
    if not parts.netloc or parts.path not in ("", "/") or "@" in parts.netloc:
        raise wrong("names no host, or more than hosts (credentials are options)")
    # A plus sign is one: passwords have them, and these addresses are written by hand, not by a form.
    options = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))
    mine = {key: options.pop(key) for key in OURS if key in options}
    written = mine.get("format", "json")
    known = next((one for one in FORMATS if one == written), None)
    if known is None:
        raise wrong(f"has a format that is none of {', '.join(FORMATS)}")
    if known != "json" and not mine.get("registry"):
        raise wrong(f"wants the format {known} and names no registry")
    if parts.scheme == "kinesis" and options:  # Kafka's client refuses what it does not know itself
        raise wrong(f"has the option {min(options)}, which Kinesis has not; there are {', '.join(OURS)}")
    size = mine.get("max_bytes", str(MAX_BYTES))
    if not size.isdecimal() or int(size) < 1:
        raise wrong("has a max_bytes that is not a number")
    return Address(
        kind="kafka" if parts.scheme == "kafka" else "kinesis",
        hosts=parts.netloc,
        format=known,
        registry=mine.get("registry", ""),
        group=mine.get("group", ""),
        endpoint=mine.get("endpoint", ""),
        max_bytes=int(size),
        options=options,
    )
