"""The one error type that people read."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SUGGESTIONS, NEAR = 3, 0.7
"""How many names are suggested at most, and how alike they are (difflib's ratio, from 0 to 1)."""


class GranaryError(Exception):
    """A failure that a person can act on: what happened, where, and what to do about it.

    Every module raises this for conditions outside the program (files, servers, settings, data); anything else
    that escapes is a defect and keeps its traceback.
    """

    def __init__(self, what: str, where: str = "", todo: str = "") -> None:
        """Keep the three parts; each is a clause without a final full stop."""
        self.what, self.where, self.todo = what, where, todo
        place = f" ({where})" if where else ""
        advice = f"; {todo}" if todo else ""
        super().__init__(f"{what}{place}{advice}")


class TransientError(GranaryError):
    """A failure that may pass by itself: somebody does not answer, or answers that they are busy. Worth another try."""


class UsageError(GranaryError):
    """What a person typed is wrong, whatever the warehouse holds: the command exits with 2."""


def unknown(kind: str, name: str, known: Iterable[str], where: str = "", *, todo: str = "") -> UsageError:
    """Return the error for a name that there is not, with those that come near it, or else all (or `todo`).

    Args:
        kind: what it would be the name of, such as "source or table".
        name: what was typed.
        known: the names that there are.
        where: where they are kept.
        todo: what to do instead, where the names would be too many.
    """
    names = list(dict.fromkeys(known))
    tails: dict[str, list[str]] = {}
    for one in names:
        tails.setdefault(one.rpartition(".")[2].lower(), []).append(one)
    near = get_close_matches(name, names, SUGGESTIONS, NEAR)
    near += [one for tail in get_close_matches(name.lower(), tails, SUGGESTIONS, NEAR) for one in tails[tail]]
    if near:
        meant = " or ".join(list(dict.fromkeys(near))[:SUGGESTIONS])
        return UsageError(f"there is no {kind} {name[:60]!r}", where, f"did you mean {meant}?")
    return UsageError(f"there is no {kind} {name[:60]!r}", where, todo or f"choose one of {', '.join(names) or 'none'}")


def missing_package(what: str, package: str, extra: str) -> GranaryError:
    """Return the error for a package of an extra that is not installed."""
    return GranaryError(f"{what} needs the package {package}", todo=f"install granary-elt[{extra}]")
