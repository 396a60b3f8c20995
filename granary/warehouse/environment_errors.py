"""What is not a defect of ours: a server that goes away, a full disk, missing rights, no memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVERS = frozenset({"psycopg", "psycopg2", "sqlalchemy"})
BROKEN_OFF = frozenset({"OperationalError", "InterfaceError", "AdminShutdown", "CrashShutdown", "CannotConnectNow"})
"""Errors of the drivers that carry no SQLSTATE where the connection is lost."""
STATES = ("08", "25006", "25P03", "28", "3D", "40", "42501", "53", "55P03", "57", "58")
"""How the SQLSTATE of what an operator fixes begins: connection, a standby, login, no such database, deadlock, rights,
resources (disk, memory, connections), locks, intervention, input and output."""

PASSING = ("08", "25006", "40", "53300", "55P03", "57")
"""Of these, what may pass by itself: a server that starts again, or that is a standby yet, a deadlock, a lock, too
many connections."""


def plainly(error: BaseException) -> GranaryError | None:
    """Return a plain failure for what our machine or the server did; None for what may be a defect."""
    for one in _chain(error):
        if isinstance(one, GranaryError):
            return one
        if type(one).__module__.partition(".")[0] in DRIVERS and _is_of_the_server(one):
            words = str(getattr(one, "orig", None) or one).strip().splitlines() or [type(one).__name__]
            return (TransientError if _may_pass(one) else GranaryError)(
                f"the connection to the warehouse's server broke: {words[0]}",
                todo="`granary status` says whether it is up, `granary up` starts it; then run again",
            )
        if isinstance(one, OSError) and one.errno:
            return GranaryError(
                f"this machine refused: {one.strerror}",
                str(one.filename or ""),
                "make room, or give the rights, and run again",
            )
        if isinstance(one, MemoryError):
            return GranaryError("this machine's memory is exhausted", todo="free some, and run again")
    return None


def _is_of_the_server(error: BaseException) -> bool:
    state = _state(error)
    return state.startswith(STATES) if state else type(_original(error)).__name__ in BROKEN_OFF


def _may_pass(error: BaseException) -> bool:
    state = _state(error)
    return not state or state.startswith(PASSING)


def _original(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error


def _state(error: BaseException) -> str:
    original = _original(error)
    return str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, the innermost first."""
    errors: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in errors:
        errors.append(one)
        one = one.__cause__
    yield from reversed(errors)
