"""What `granary serve` keeps at work, as data: a row per process, with how to know that it is healthy."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from granary.backup import config as backup
from granary.dagster.instance import MODULE
from granary.twin import config as twin
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import SOCKET_PATH_LIMIT, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

SUPERVISOR, GUARD, WAREHOUSE = "supervisor", "guard", "warehouse"
"""The supervisor itself and its guard, as they are told of beside the services; and the service that is not its own."""
ANSWER_SECONDS = 5
BEAT_SECONDS = 120
"""How old the daemon's last sign of life may be; it gives one every half a minute."""
LAST_BEAT = "select max(timestamp) from daemon_heartbeats"


@dataclass(frozen=True)
class Service:
    """A process: its name, its command, and a question that it answers with yes while it does its work.

    The question is given the moment at which the process was started, and may raise whatever goes wrong.
    """

    name: str
    command: tuple[str, ...]
    is_healthy: Callable[[datetime], bool]


def folder(settings: Settings) -> Path:
    """Return the folder of what is served: its state, its sockets."""
    return settings.home / "serve"


def services(
    settings: Settings, port: int, metrics_port: int | None = None, *, warehouse_too: bool = True
) -> tuple[Service, ...]:
    """Return what is kept at work, in the order in which it is started; the last is stopped first.

    Args:
        settings: the warehouse. An external server is somebody else's to keep up.
        port: of Dagster's pages.
        metrics_port: where metrics are served, if they are.
        warehouse_too: keep the embedded server up as well.

    Raises:
        GranaryError: the path of the home is too long for a socket, or backup.yml says what nobody understands.
    """
    code = folder(settings) / "code.sock"
    if len(os.fsencode(code)) > SOCKET_PATH_LIMIT:
        what = f"the path of a socket is longer than {SOCKET_PATH_LIMIT} bytes"
        raise GranaryError(what, str(code), "set GRANARY_HOME to a shorter folder")
    workspace = folder(settings) / "workspace.yaml"
    warehouse = Service(WAREHOUSE, _module("granary.supervisor.warehouse"), lambda _: server.running(settings))
    metrics = Service(
        "metrics",
        _module("granary.supervisor.metrics", metrics_port),
        lambda _: _accepts(("127.0.0.1", metrics_port)),
    )
    return (
        *((warehouse,) if warehouse_too and not settings.external else ()),
        Service(
            "code",
            _module("dagster", "api", "grpc", "--socket", code, "--module-name", MODULE, "--location-name", MODULE),
            lambda _: _accepts(str(code)),
        ),
        Service(
            "webserver",
            _module("dagster_webserver", "--host", "127.0.0.1", "--port", port, "--workspace", workspace),
            lambda _: _answers(port, "/server_info"),
        ),
        Service(
            "daemon",
            _module("granary.supervisor.daemon", workspace),
            lambda since: _beats(settings, since),
        ),
        Service("alerts", _module("granary.supervisor.alerts"), lambda _: True),
        *((metrics,) if metrics_port else ()),
        *((Service("backups", _module("granary.supervisor.backups"), lambda _: True),) if backup.load().to else ()),
        *((Service("twin", _module("granary.supervisor.twin"), lambda _: True),) if twin.is_wanted() else ()),
    )


def write_workspace(settings: Settings) -> None:
    """Write where the webserver and the daemon find the code server: a socket that only its owner reaches."""
    place = folder(settings)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    server_of_code = {"socket": str(place / "code.sock"), "location_name": MODULE}
    (place / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server_of_code}]}))


def _module(name: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *map(str, arguments))


def _accepts(address: str | tuple[str, int | None]) -> bool:
    """Return whether a socket, a path or a host and port, takes connections."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as probe:
        probe.settimeout(ANSWER_SECONDS)
        probe.connect(address)
    return True


def _answers(port: int, path: str) -> bool:
    """Return whether a web server on this machine answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200  # noqa: PLR2004
    finally:
        connection.close()


def _beats(settings: Settings, since: datetime) -> bool:
    """Return whether Dagster's daemon, started at `since`, has given a sign of life of late."""
    with connect(settings, settings.dagster_database) as connection:
        ((last,),) = query(connection, LAST_BEAT)
    if not isinstance(last, datetime):
        return False
    oldest = max(since, datetime.now(timezone.utc) - timedelta(seconds=BEAT_SECONDS))
    return last.replace(tzinfo=timezone.utc) >= oldest
