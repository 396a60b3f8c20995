"""Whether the project has a twin, where its files are, and who may read them: the var `twin` of dbt_project.yml."""

from __future__ import annotations

import grp
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT, project_vars

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

NAMES = ("to", "group")
WHERE = "dbt_project.yml"


@dataclass(frozen=True)
class Config:
    """Where the twin's folders are, and the group of the system whose members may read what analysts may."""

    place: Path
    group: int | None = None


def load(settings: Settings, given: Any = None) -> Config | None:
    """Return how the project wants its twin, None if it wants none.

    Args:
        settings: the warehouse; in its home the files are by default.
        given: what the var says, if it is not to be read.

    Raises:
        GranaryError: the var says what nobody understands, or there is no such group.
    """
    said = project_vars().get("twin", False) if given is None else given
    if said in (False, None):
        return None
    if said is True:
        said = {}
    if not isinstance(said, dict) or (others := sorted(str(one) for one in said if one not in NAMES)):
        what = f"vars: twin has {', '.join(others)}" if isinstance(said, dict) else f"vars: twin is {str(said)[:40]!r}"
        raise GranaryError(what, WHERE, f"write true, or a mapping of {' and '.join(NAMES)}")
    return Config(_place(settings, said.get("to")), _group(said.get("group")))


def is_wanted() -> bool:
    """Return whether the project has a twin, without looking at how."""
    return (PROJECT / WHERE).is_file() and project_vars().get("twin", False) not in (False, None)


def required(settings: Settings) -> Config:
    """Return how the project wants its twin.

    Raises:
        GranaryError: it wants none; see also `load`.
    """
    if (config := load(settings)) is None:
        raise GranaryError("this project has no twin of its marts", WHERE, "write `twin: true` under `vars:`")
    return config


def _place(settings: Settings, given: Any) -> Path:
    """Return the folder of this database's twin: others may have theirs beside it."""
    database = quote(settings.database, safe="")
    if given is None:
        return settings.home / "twin" / database
    if not isinstance(given, str) or "://" in given or not Path(os.path.expanduser(given)).is_absolute():
        raise GranaryError(f"vars: twin.to is {str(given)[:80]!r}", WHERE, "write the full path of a folder")
    return Path(os.path.expanduser(given)) / database


def _group(given: Any) -> int | None:
    if given is None:
        return None
    try:
        return grp.getgrnam(str(given)).gr_gid
    except KeyError:
        raise GranaryError(
            f"vars: twin.group: this system has no group {str(given)[:40]!r}", WHERE, "make it, or name another"
        ) from None
