"""Environments of connectors: one each, pinned and hashed by a lock that the project commits.

The lock is `connectors/NAME.lock` in the project, in the form of pip's requirements. What it names is installed below
the warehouse's home, in a folder that is called after the lock's content: a lock that changes has another environment,
and one that came to be half made is none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError, unknown
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import home_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
EXTRAS = re.compile(r"\[[^\]]*\]")
"""Extras of a requirement, whose names are written with hyphens (PEP 685); older versions of pip do not know that."""
NO_EXTRA = re.compile(r"\S+ \S+ does not provide the extra '[^']*'")
PINNED = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")
COMPLETE = ".complete"
"""A file that an environment has once everything is in it."""
WITHOUT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
SECONDS = 1_800


@dataclass(frozen=True)
class Connector:
    """A connector of the project: what its lock pins, the first being what was asked for, and where it is, if it is."""

    name: str
    pinned: dict[str, str]
    folder: Path | None


def locks() -> Path:
    """Return the folder of the project's locks."""
    return PROJECT / "connectors"


def lock_of(name: str) -> Path:
    """Return where a connector's lock is."""
    return locks() / f"{name}.lock"


def read(name: str) -> Connector:
    """Return a connector of the project.

    Raises:
        GranaryError: the project has no lock of this name, or it is none.
    """
    path = lock_of(name)
    if not path.is_file():
        known = sorted(one.stem for one in locks().glob("*.lock"))
        if known:
            raise unknown("connector", name, known, str(locks()), todo=f"`granary connect install {name}`")
        raise GranaryError(f"connector {name} is not installed", str(path), f"`granary connect install {name}`")
    text = path.read_text(encoding="utf-8")
    pinned = {found[1]: found[2] for line in text.splitlines() if (found := PINNED.match(line))}
    if not pinned or any(
        line and not line.startswith("#") and not (PINNED.match(line) and "--hash=sha256:" in line)
        for line in text.splitlines()
    ):
        raise GranaryError("the lock of a connector has lines without a version and a hash", str(path), _again(name))
    folder = _folder(name, text)
    return Connector(name, pinned, folder if (folder / COMPLETE).is_file() else None)


def every() -> list[Connector]:
    """Return the connectors of the project by name."""
    return [read(path.stem) for path in sorted(locks().glob("*.lock"))]


def python(name: str) -> Path:
    """Return the interpreter of a connector's environment.

    Raises:
        GranaryError: it is not installed on this machine.
    """
    connector = read(name)
    if connector.folder is None:
        todo = f"`granary connect install {name}` installs what the lock says"
        raise GranaryError(f"connector {name} is not installed on this machine", str(lock_of(name)), todo)
    return connector.folder / "bin" / "python"


def program(name: str) -> Path:
    """Return the program of a connector: the one that is called as the connector is.

    Raises:
        GranaryError: it is not installed on this machine, or its packages have no such program.
    """
    found = python(name).parent / name
    if not found.is_file():
        named = ", ".join(_programs(found.parent)) or "none"
        todo = f"its programs are {named}; install it by that name: `granary connect install PROGRAM --package PACKAGE`"
        raise GranaryError(f"connector {name} has no program of that name", str(lock_of(name)), todo)
    return found


def _programs(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.glob("*") if one.name.startswith("tap-"))


def install(
    name: str, packages: Sequence[str] = (), *, interpreter: str = "", anew: bool = False, build: bool = False
) -> Connector:
    """Install a connector as its lock says; without a lock, or `anew`, what is newest is locked first.

    Args:
        name: what the project calls it; of a tap its program, such as "tap-csv".
        packages: what it is made of, as pip takes it; by default the package of its name.
        interpreter: the Python to make the environment with, by default the one that runs.
        anew: lock it anew.
        build: also take packages that have to be built, which runs code of theirs meanwhile.

    Raises:
        GranaryError: the name is none, or pip finds no such packages or other content than was locked.
    """
    if NAME.fullmatch(name) is None:
        raise GranaryError(f"{name[:60]!r} is no name of a connector", todo="write lower case, such as tap-csv")
    path = lock_of(name)
    base = home_folder() / "connectors"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base, prefix=".new-") as work:
        files, folder = Path(work) / "files", Path(work) / "environment"
        _run([interpreter or sys.executable, "-m", "venv", "--without-pip", str(folder)], f"connector {name}")
        binary = [] if build else ["--only-binary", ":all:"]
        if anew or packages or not path.is_file():
            asked = [EXTRAS.sub(lambda extras: re.sub(r"[_.]+", "-", extras[0]), one) for one in packages or [name]]
            _pip(folder, ["download", *binary, "--dest", str(files), *asked], name)
            text = _lock(name, asked, files)
            found = ["--no-index", "--find-links", str(files)]
        else:
            read(name)
            text, found = path.read_text(encoding="utf-8"), binary
        wanted = Path(work) / "lock"
        wanted.write_text(text, encoding="utf-8")
        _pip(folder, ["install", "--no-deps", "--require-hashes", *found, "--requirement", str(wanted)], name)
        place = _folder(name, text)
        (folder / COMPLETE).touch()
        _put(folder, place)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for other in place.parent.iterdir():
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    return read(name)


def _put(folder: Path, place: Path) -> None:
    """Move an environment to where it belongs, and have its programs say so: a virtual environment knows its place."""
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    for script in (folder / "bin").iterdir():
        if not script.is_symlink() and script.is_file():
            data = script.read_bytes()
            script.write_bytes(data.replace(os.fsencode(str(folder)), os.fsencode(str(place))))
    folder.rename(place)


def _lock(name: str, asked: Sequence[str], files: Path) -> str:
    """Return the text of a lock of what was downloaded: what was asked for first, each with its hash."""
    lines = {}
    for file in files.iterdir():
        wheel = file.suffix == ".whl"
        stem = file.name if wheel else re.sub(r"\.(tar\.\w+|zip)$", "", file.name)
        package, version = stem.split("-")[:2] if wheel else stem.rsplit("-", 1)
        package = re.sub(r"[-_.]+", "-", package).lower()
        lines[package] = f"{package}=={version} --hash=sha256:{sha256(file.read_bytes()).hexdigest()}"
    wanted = [re.sub(r"[-_.]+", "-", re.split(r"[\[=<>~!; ]", one)[0]).lower() for one in asked]
    order = [*(one for one in wanted if one in lines), *sorted(one for one in lines if one not in wanted)]
    header = f"# Written by `granary connect install {name}` for Python {sys.version_info[0]}.{sys.version_info[1]}."
    return "\n".join([header, *(lines[one] for one in order)]) + "\n"


def check(name: str) -> list[str]:
    """Return what is wrong with a connector's environment, in sentences; nothing is well."""
    connector = read(name)
    if connector.folder is None:
        return [f"{name} is not installed on this machine: granary connect install {name}"]
    try:
        printed = _run([str(python(name)), "-I", "-c", VERSIONS], f"connector {name}")
        found = {re.sub(r"[-_.]+", "-", one).lower(): version for one, version in json.loads(printed).items()}
    except (GranaryError, ValueError) as error:
        return [f"{name} does not run: {error}"]
    wrong = [
        f"{name}: {package} is {found.get(package, 'missing')}, and {version} is locked"
        for package, version in connector.pinned.items()
        if found.get(package) != version
    ]
    wrong += [f"{name}: {package} is not locked" for package in sorted(found.keys() - connector.pinned.keys())]
    return wrong


def remove(name: str) -> None:
    """Remove a connector's environment and its lock.

    Raises:
        GranaryError: the project has none of this name.
    """
    read(name)
    lock_of(name).unlink()
    shutil.rmtree(home_folder() / "connectors" / name, ignore_errors=True)


def _folder(name: str, text: str) -> Path:
    return home_folder() / "connectors" / name / sha256(text.encode()).hexdigest()[:16]


def _again(name: str) -> str:
    return f"write it anew: `granary connect install {name} --upgrade`"


def _pip(folder: Path, words: list[str], name: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    _run([*command, *words, *quiet], f"connector {name}", refused=NO_EXTRA)


def _run(command: list[str], where: str, refused: re.Pattern[str] | None = None) -> str:
    """Return what a program printed.

    Raises:
        GranaryError: it failed, or said something that is refused; the error has its last words.
    """
    env = {key: value for key, value in os.environ.items() if key not in WITHOUT}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GranaryError(f"{Path(command[0]).name} did not run: {error}", where, "see whether it is there") from None
    warned = refused.search(done.stderr) if refused else None
    if warned:
        raise GranaryError(f"it cannot be installed: {warned[0]}", where, "see what its documentation calls it")
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR:")] or said[-3:]
        words = " ".join(" ".join(errors[-3:]).replace("ERROR: ", "").split())
        raise GranaryError(f"it cannot be installed: {words[:600]}", where, "see the name, the version and the network")
    return done.stdout
