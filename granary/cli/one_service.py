"""`granary serve --only` and `--ask`: one service, where a container's runtime looks after it, not our supervisor."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NoReturn

from granary.warehouse.errors import unknown
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from granary.supervisor.services import Service


def become(name: str, port: int, metrics_port: int | None) -> NoReturn:
    """Become a service.

    Raises:
        UsageError: there is no such service.
    """
    from granary.dagster.instance import environment, prepare_instance
    from granary.supervisor.services import write_workspace

    settings = Settings.load()
    service = _find(settings, name, port, metrics_port)
    prepare_instance(settings)
    write_workspace(settings)
    os.chdir(PROJECT)
    started = environment(settings) | {"GRANARY_SCHEDULES": "running"}
    os.execve(service.command[0], service.command, started)  # noqa: S606 - no shell is wanted


def is_healthy(name: str, port: int, metrics_port: int | None) -> bool:
    """Return whether a service does its work; one that does not answer does not.

    Raises:
        UsageError: there is no such service.
    """
    service = _find(Settings.load(), name, port, metrics_port)
    try:
        return service.is_healthy(datetime.now(timezone.utc) - timedelta(days=1))
    except Exception:  # whatever goes wrong is an answer
        return False


def _find(settings: Settings, name: str, port: int, metrics_port: int | None) -> Service:
    from granary.supervisor.services import services

    known = {one.name: one for one in services(settings, port, metrics_port)}
    if name not in known:
        raise unknown("service", name, known)
    return known[name]
