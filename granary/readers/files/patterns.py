"""Patterns of files below a place: `*` and `?` within a name, `[…]` for one character, `**` for any folders."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache

WILD = re.compile(r"[*?\[]")


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    folders = "".join("(?:[^/]+/)*" if part == "**" else f"{_name(part)}/" for part in parts[:-1])
    last = "(?:[^/]+/)*[^/]+" if parts[-1:] == ["**"] else "".join(map(_name, parts[-1:]))
    return re.compile(folders + last, re.DOTALL)


def _name(part: str) -> str:
    """Return the regular expression of one step of a pattern."""
    found, place = "", 0
    while place < len(part):
        letter = part[place]
        end = part.find("]", place + 2) if letter == "[" else -1
        if letter == "*":
            found += "[^/]*"
        elif letter == "?":
            found += "[^/]"
        elif end > 0:
            inner = part[place + 1 : end]
            negated, inner = inner.startswith("!"), inner.removeprefix("!")
            escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inner)
            found += f"(?!/)[{'^' if negated else ''}{escaped}]"
            place = end
        else:
            found += re.escape(letter)
        place += 1
    return found


def takes(pattern: str, name: str) -> bool:
    """Return whether a pattern takes the file of this name, which has slashes between its steps."""
    return _compiled(pattern).fullmatch(name) is not None


def enters(pattern: str, folder: str) -> bool:
    """Return whether a pattern may take files below this folder."""
    steps = [step for step in pattern.split("/") if step not in ("", ".")]
    inner = folder.split("/")
    for step, name in zip(steps[:-1], inner, strict=False):
        if step == "**":
            return True
        if not fnmatchcase(name, step):
            return False
    return len(inner) < len(steps) or steps[-1:] == ["**"]


def fixed(pattern: str) -> str:
    """Return the folder that all files of a pattern are in, "" for the place itself."""
    steps = pattern.split("/")[:-1]
    first = next((index for index, step in enumerate(steps) if WILD.search(step)), len(steps))
    return "/".join(steps[:first])
