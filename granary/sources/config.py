"""Settings of the sources: from the environment, or from the owner-only file in the warehouse's home.

NAME holds the value itself, NAME_FILE the path of a file with it (as containers mount secrets), and NAME_COMMAND a
command that prints it (of Vault, of a cloud, of a keyring). A command is run without a shell.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from granary.warehouse import secret
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

FILE = "sources.env"
NAME = re.compile(r"[A-Za-z_]\w*")
ALIKE = 0.85
"""How much of two names must agree for one to be taken for the other, mistyped."""
FROM_FILE, FROM_COMMAND = "_FILE", "_COMMAND"
"""What is added to a setting's name where its value is elsewhere."""
KEPT_SECONDS = 300
"""How long what a command gave is used again: a load of a hundred tables asks a vault once."""
_given: dict[str, tuple[float, str]] = {}


@dataclass(frozen=True)
class Line:
    """One line of the file that sets something; its name is '' if it does not."""

    number: int
    name: str
    value: str


def setting(settings: Settings, name: str) -> str:
    """Return a source's setting; values may be secrets and never appear in errors or logs.

    Raises:
        GranaryError: it is set nowhere, or as for `find`.
    """
    if (value := find(settings, name)) is not None:
        return value
    path = settings.home / FILE
    near = get_close_matches(name, {*os.environ, *(line.name for line in _lines(path))} - {name}, 1, ALIKE)
    advice = f"{near[0]} is set: did you mean that? Else " if near else ""
    raise GranaryError(
        f"{name} is not set", str(path), f"{advice}set it in the environment or that file; the sample's: `make demo`"
    )


def find(settings: Settings, name: str) -> str | None:
    """Return a setting, or None if it is set nowhere.

    Raises:
        GranaryError: it is set in two ways, others than its owner may read the file, or what it names gives no value.
    """
    if (value := _one_way(name, "the environment", os.environ.get)) is not None:
        return value
    path = settings.home / FILE
    found = list(_lines(path))
    return _one_way(name, str(path), lambda way: _once(found, way, path))


def _one_way(name: str, where: str, given: Callable[[str], str | None]) -> str | None:
    """Return the value of a setting by the one way in which it is given here; None if it is not."""
    said = {way: told for way in (name, name + FROM_FILE, name + FROM_COMMAND) if (told := given(way))}
    if len(said) > 1:
        raise GranaryError(f"{' and '.join(said)} are both set", where, "keep one of them")
    for way, told in said.items():
        return told if way == name else _fetched(way, told)
    return None


def _once(lines: list[Line], name: str, path: Path) -> str:
    """Return what the file sets a name to; '' for nothing."""
    mine = [line for line in lines if line.name == name]
    if len({line.value for line in mine}) > 1:
        numbers = " and ".join(str(line.number) for line in mine)
        raise GranaryError(f"{name} is set more than once", f"{path}, lines {numbers}", "keep one of them")
    return mine[0].value if mine else ""


def _fetched(name: str, told: str) -> str:
    """Return what is in a file, or what a command prints, or printed a moment ago."""
    if name.endswith(FROM_FILE):
        return secret.of_file(told, private=False)
    known = _given.get(told)
    if known is None or time.monotonic() - known[0] >= KEPT_SECONDS:
        known = _given[told] = time.monotonic(), secret.of_command(told)
    return known[1]


def problems(settings: Settings, known: Collection[str]) -> list[str]:
    """Return what is wrong with the file of settings: lines that set nothing, doubled names, mistyped names.

    Args:
        settings: the warehouse, in whose home the file is.
        known: the names that sources ask for; a name that is like none of them is somebody else's.
    """
    path = settings.home / FILE
    known = {way for name in known for way in (name, name + FROM_FILE, name + FROM_COMMAND)}
    said, seen = [], dict[str, int]()
    for line in _lines(path):
        place = f"{path}, line {line.number}"
        if not line.name:
            said.append(f"{place} is not NAME=VALUE, and sets nothing")
            continue
        if line.name in seen:
            said.append(f"{place} sets {line.name} again, after line {seen[line.name]}")
        seen.setdefault(line.name, line.number)
        if not line.value:
            said.append(f"{place} sets {line.name} to nothing")
        if line.value[:1] in ("'", '"') and line.value[-1:] == line.value[:1]:
            said.append(f"{place} sets {line.name} in quotes, which become part of its value")
        near = [] if line.name in known else get_close_matches(line.name, known, 1, ALIKE)
        if near:
            said.append(f"{place} sets {line.name}, which no source asks for: did you mean {near[0]}?")
    return said


def _lines(path: Path) -> Iterator[Line]:
    """Yield what the file says, without blank lines and comments.

    Raises:
        GranaryError: others than its owner may read it.
    """
    if not path.exists():
        return
    if path.stat().st_mode & 0o077:
        raise GranaryError("others may read the file of secrets", str(path), f"run `chmod 600 {path}`")
    for number, text in enumerate(path.read_text(errors="surrogateescape").splitlines(), 1):
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        name, separator, value = text.partition("=")
        right = separator and NAME.fullmatch(name.strip())
        yield Line(number, name.strip() if right else "", value.strip() if right else "")
