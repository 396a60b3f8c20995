"""Where the embedded server answers over the network: nowhere, until `granary up --listen HOST:PORT` says so.

Over the network only people log in: who has a role that reads, from `granary roles grant`, with a SCRAM password. The
owner and the roles as which processes work are refused there whatever password they might have.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.settings import LOGINS, OWNER

if TYPE_CHECKING:
    from pathlib import Path

STATE = "listen.json"
READERS = ("analyst", "auditor", "monitor")
"""Roles whose members may come by the network; `analyst` includes those of `analyst_pii`."""
WRITERS = ("loader", "transformer")
"""Roles whose members may not, whatever else they have: who writes works on the machine itself."""
EVERYWHERE = {"*", "0.0.0.0", "::"}  # noqa: S104 - to know them, not to bind them
LOOPBACK = ("127.0.0.0/8", "::1/128")
RESERVED = 40
"""Connections of 100 that colleagues cannot take: loads, dbt and Dagster come in at any time."""


@dataclass(frozen=True)
class Listening:
    """What was asked of `granary up --listen`; kept in the home, so that every later start does the same.

    `certificate` and `key` are the paths of files that somebody gave; without them one is made. `clients` are the
    networks that may connect. `server` is the folder of a Postgres with TLS that somebody named.
    """

    host: str
    port: int
    database: str
    clients: tuple[str, ...]
    tls: bool
    certificate: str | None = None
    key: str | None = None
    server: str | None = None

    def __str__(self) -> str:
        """Say where and how."""
        return f"{written(self.host, self.port)}, {'TLS' if self.tls else 'plain text'}"

    def server_settings(self, certificate: Path, key: Path) -> dict[str, str]:
        """Return settings of the server, beside those that every embedded one has."""
        safe = {"ssl": "on", "ssl_cert_file": _quoted(certificate), "ssl_key_file": _quoted(key)} if self.tls else {}
        return {
            "listen_addresses": f"'{self.host}'",
            "port": str(self.port),
            "reserved_connections": str(RESERVED),
            "password_encryption": "'scram-sha-256'",
            # Who says nothing, and what nobody waits for any more, takes a connection from others.
            "authentication_timeout": "10s",
            "tcp_keepalives_idle": "60",
            "client_connection_check_interval": "10s",
            "log_line_prefix": "'%m [%p] %q%a %u %h '",
            **safe,
        }

    @property
    def rules(self) -> str:
        """Lines of pg_hba.conf, of which the first that fits decides."""
        refused = ",".join((OWNER, *LOGINS, *(f"+{role}" for role in WRITERS)))
        people = ",".join(f"+{role}" for role in READERS)
        database = '"' + self.database.replace('"', '""') + '"'
        kind = "hostssl" if self.tls else "hostnossl"
        return f"host all {refused} all reject\n" + "".join(
            f"{kind} {database} {people} {network} scram-sha-256\n" for network in self.clients
        )


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def load(home: Path) -> Listening | None:
    """Return where the server of this home listens, None for nowhere.

    Raises:
        GranaryError: the file that says it is damaged.
    """
    path = home / STATE
    try:
        found = json.loads(path.read_text())
        return Listening(**found | {"clients": tuple(found["clients"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise GranaryError("the file is damaged", str(path), "say it again: `granary up --listen …`") from None


def save(home: Path, listening: Listening | None) -> None:
    """Keep where the server of this home listens; it does so from its next start on."""
    path = home / STATE
    if listening is None:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(asdict(listening), indent=1))
    fresh.replace(path)


def address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; an IPv6 address stands in brackets.

    Raises:
        UsageError: it is none, or the host is unknown.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or not port.isdigit() or not 0 < int(port) < 65536 or set(host) & set("', \\\n"):  # noqa: PLR2004
        raise UsageError(
            f"{text[:80]!r} is no HOST:PORT", todo="write one, such as 127.0.0.1:5433, 0.0.0.0:5432 or [::1]:5433"
        )
    addresses(host)
    return host, int(port)


def addresses(host: str) -> list[str]:
    """Return the addresses of a host.

    Raises:
        UsageError: there is none.
    """
    if host in EVERYWHERE:
        return [host]
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError:
        raise UsageError(f"the host {host[:80]!r} is unknown", todo="name an address of this machine") from None


def is_loopback(host: str) -> bool:
    """Return whether what is sent to this host stays on the machine."""
    return host not in EVERYWHERE and all(ipaddress.ip_address(one).is_loopback for one in addresses(host))


def networks(texts: list[str], host: str) -> tuple[str, ...]:
    """Return the networks that may connect; by default this machine if `host` is loopback, else every one.

    Raises:
        UsageError: one is no network.
    """
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError:
            raise UsageError(f"{text[:80]!r} is no network", todo="write one, such as 10.1.0.0/16") from None
    return tuple(found) or (LOOPBACK if is_loopback(host) else ("all",))


def refuse_taken(host: str, port: int) -> None:
    """Refuse an address that this machine has not, or that another program has.

    Raises:
        GranaryError: it cannot be listened at.
    """
    for one in addresses(host):
        family = socket.AF_INET6 if ":" in one else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("" if one == "*" else one, port))
            except OSError as error:
                raise GranaryError(
                    f"the server cannot listen: {error.strerror}",
                    written(host, port),
                    "choose a free port of an address of this machine",
                ) from None


def written(host: str, port: int) -> str:
    """Return host and port as they are typed."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
