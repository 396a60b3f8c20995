"""Settings of the sources: from the environment, or from the owner-only file in the warehouse's home."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

FILE = "sources.env"
NAME = re.compile(r"[A-Za-z_]\w*")
ALIKE = 0.85
"""How much of two names must agree for one to be taken for the other, mistyped."""


@dataclass(frozen=True)
class Line:
    """One line of the file that sets something; its name is '' if it does not."""

    number: int
    name: str
    value: str


def setting(settings: Settings, name: str) -> str:
    """Return a source's setting; values may be secrets and never appear in errors or logs.

    Raises:
        GranaryError: it is set nowhere, or twice and differently, or others than its owner may read the file.
    """
    if value := os.environ.get(name):
        return value
    path = settings.home / FILE
    found = list(_lines(path))
    mine = [line for line in found if line.name == name]
    if len({line.value for line in mine}) > 1:
        numbers = " and ".join(str(line.number) for line in mine)
        raise GranaryError(f"{name} is set more than once", f"{path}, lines {numbers}", "keep one of them")
    if mine and mine[0].value:
        return mine[0].value
    near = get_close_matches(name, {*os.environ, *(line.name for line in found)} - {name}, 1, ALIKE)
    advice = f"{near[0]} is set: did you mean that? Else " if near else ""
    raise GranaryError(
        f"{name} is not set", str(path), f"{advice}set it in the environment or that file; the sample's: `make demo`"
    )


def problems(settings: Settings, known: Collection[str]) -> list[str]:
    """Return what is wrong with the file of settings: lines that set nothing, doubled names, mistyped names.

    Args:
        settings: the warehouse, in whose home the file is.
        known: the names that sources ask for; a name that is like none of them is somebody else's.
    """
    path = settings.home / FILE
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
