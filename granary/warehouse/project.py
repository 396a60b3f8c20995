"""The project that the engine works for: its folder, and modules of it that the engine finds there by name."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from types import ModuleType


DISTRIBUTION = "granary-elt"
"""The engine's name where packages are installed from."""


def project_folder() -> Path:
    """Return the project: GRANARY_PROJECT, else the nearest folder from here upwards that is one, else that of .venv.

    A project has a dbt_project.yml and a profiles.yml (a dbt package has no profiles). Without any it is this folder,
    and whatever needs a file of the project says that it is missing.
    """
    if chosen := os.environ.get("GRANARY_PROJECT"):
        return Path(chosen).expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents, Path(sys.prefix).parent):
        if (folder / "dbt_project.yml").is_file() and (folder / "profiles.yml").is_file():
            return folder
    return here


PROJECT = project_folder()
"""The folder of dbt_project.yml."""


def require_project() -> None:
    """Refuse to go on where there is no project: a warehouse made here would be nobody's.

    Raises:
        GranaryError: the folder has no dbt_project.yml.
    """
    if not (PROJECT / "dbt_project.yml").is_file():
        todo = "go into the folder of one, name it in GRANARY_PROJECT, or make one: `granary init DIR`"
        raise GranaryError("there is no project", str(PROJECT), todo)


def project_module(name: str) -> ModuleType | None:
    """Return a module of the project, None if the project has none of that name.

    Raises:
        Exception: whatever the module raises while it is imported.
    """
    if str(PROJECT) not in sys.path:
        sys.path.insert(0, str(PROJECT))
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            return None
        raise


@cache
def project_vars() -> dict[str, Any]:
    """Return the vars of dbt_project.yml, which Python and dbt both read.

    Raises:
        GranaryError: the file is missing or is not YAML.
    """
    import yaml  # noqa: PLC0415 - takes 60 ms, which a command that needs no vars does not pay

    path = PROJECT / "dbt_project.yml"
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")).get("vars") or {})
    except OSError as error:
        raise GranaryError(
            f"the project cannot be read: {error.strerror}", str(path), "run this in a project"
        ) from None
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        what = f"the project cannot be read: {str(error).splitlines()[0]}"
        raise GranaryError(what, str(path), "correct its YAML") from None


ZONE_ADVICE = "write an IANA name, such as Europe/Berlin, or UTC"


def is_time_zone(name: str) -> bool:
    """Return whether this machine knows a time zone of this name."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True


@dataclass(frozen=True)
class Calendar:
    """The business's calendar: the zone in which a business date begins and ends, and the first one there is."""

    time_zone: str
    first_date: date


@cache
def calendar() -> Calendar:
    """Return the calendar that the vars `time_zone` and `first_business_date` of dbt_project.yml set.

    Raises:
        GranaryError: one is missing, the zone is unknown, or the date is none.
    """
    where = str(PROJECT / "dbt_project.yml")
    zone, first = (project_vars().get(name) for name in ("time_zone", "first_business_date"))
    if not is_time_zone(str(zone)):
        raise GranaryError(f"vars: time_zone {zone!r} is not a time zone", where, ZONE_ADVICE)
    try:
        return Calendar(str(zone), date.fromisoformat(str(first)))
    except ValueError:
        raise GranaryError(
            f"vars: first_business_date {first!r} is not a date", where, "write YYYY-MM-DD, in quotes"
        ) from None
