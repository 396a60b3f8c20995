"""Another release of the engine: looked into before it is installed, so that none is that the warehouse refuses."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from granary.scaffold.new_project import EXTRAS
from granary.warehouse import migrate
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.project import DISTRIBUTION

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

VERSION = re.compile(r"\d+(\.\d+)*([a-z.+][a-z0-9.+]*)?")
WHEEL = re.compile(rf"{DISTRIBUTION.replace('-', '_')}-({VERSION.pattern})-.+\.whl")
MIGRATIONS = "granary/warehouse/migrations/"


@dataclass(frozen=True)
class NewEngine:
    """A release of the engine that can be installed."""

    release: migrate.Release
    requirement: str
    """What pip is to install, with what a project needs besides the engine."""
    is_wheel: bool


def find(to: str) -> NewEngine:
    """Return the release that is meant, from a wheel or from where pip gets packages; nothing is installed.

    Raises:
        UsageError: this is neither a version nor a wheel.
        GranaryError: there is no such release, or it is not a wheel of the engine.
    """
    if to.endswith(".whl"):
        wheel = Path(to).expanduser().absolute()
        return NewEngine(_release(wheel), f"{DISTRIBUTION}[{EXTRAS}] @ {wheel.as_uri()}", is_wheel=True)
    if VERSION.fullmatch(to) is None:
        raise UsageError(
            f"{to[:60]!r} is not a version of the engine", todo=f"write one, or the wheel of {DISTRIBUTION}"
        )
    with tempfile.TemporaryDirectory() as folder:
        _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", folder, f"{DISTRIBUTION}=={to}")
        return NewEngine(_release(next(Path(folder).iterdir())), f"{DISTRIBUTION}[{EXTRAS}]=={to}", is_wheel=False)


def check(settings: Settings, engine: NewEngine) -> None:
    """See that an engine can work on the warehouse.

    Raises:
        GranaryError: the warehouse has had migrations that the engine does not have.
    """
    with connect(settings) as connection:
        migrate.pending(connection, settings, engine.release)


def install(engine: NewEngine) -> None:
    """Install a release in place of this one.

    Raises:
        GranaryError: pip cannot.
    """
    _pip("install", "--upgrade", engine.requirement)
    if engine.is_wheel:  # of the same version, pip would have kept the one that is there
        _pip("install", "--force-reinstall", "--no-deps", engine.requirement)


def _release(wheel: Path) -> migrate.Release:
    name = WHEEL.fullmatch(wheel.name)
    try:
        if name is None:
            raise ValueError
        with zipfile.ZipFile(wheel) as archive:
            texts = {
                one.removeprefix(MIGRATIONS): archive.read(one).decode()
                for one in archive.namelist()
                if one.startswith(MIGRATIONS)
            }
    except (OSError, ValueError, zipfile.BadZipFile):
        raise GranaryError("this is not a wheel of the engine", str(wheel), f"name one of {DISTRIBUTION}") from None
    return migrate.release(name[1], texts)


def _pip(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it does not say why"])[-1].removeprefix("ERROR: ")
        raise GranaryError(f"pip cannot {words[0]} the engine: {said[:300]}", sys.prefix, "fix that and run this again")
