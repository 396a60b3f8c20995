"""What the machine or the server did is reported plainly; whatever may be a defect is not passed off as such."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg2  # type: ignore[import-untyped]
import pytest
from sqlalchemy import create_engine, exc, text

from granary.dagster.run import OUTSIDE, unexplained
from granary.warehouse import connection, errors
from granary.warehouse.environment_errors import plainly
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

RAISING = "do $$ begin raise exception 'it broke' using errcode = '{}'; end $$"


def error_of(settings: Settings, state: str) -> psycopg.Error:
    """Return the driver's own error for a SQLSTATE, from a server."""
    with psycopg.connect(settings.uri()) as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute(RAISING.format(state).encode())
    return raised.value


@pytest.mark.parametrize(
    ("state", "plain"),
    [
        ("53100", True),  # the disk is full
        ("53200", True),  # no memory
        ("53300", True),  # too many connections
        ("42501", True),  # no right
        ("55P03", True),  # a lock
        ("57014", True),  # a statement was canceled
        ("57P01", True),  # the server is shut down
        ("40P01", True),  # a deadlock
        ("58030", True),  # input and output
        ("28000", True),  # no such login
        ("3D000", True),  # no such database
        ("08006", True),  # the connection failed
        ("25P03", True),  # a transaction was idle for too long
        ("22012", False),  # a division by zero
        ("23505", False),  # a key is there twice
        ("42601", False),  # the statement is wrong
        ("42P01", False),  # there is no such table
        ("25P02", False),  # the transaction had failed before
        ("XX000", False),  # the server's own defect
    ],
)  # fmt: skip
def test_what_the_server_reports_of_itself_is_no_defect_of_ours(settings: Settings, state: str, plain: bool) -> None:
    told = plainly(error_of(settings, state))
    assert (told is not None) is plain
    if told:
        assert told.what == "the connection to the warehouse's server broke: it broke"
        assert "`granary up` starts it" in told.todo


def test_every_driver_that_loses_its_connection_is_understood(settings: Settings, tmp_path: Path) -> None:
    nowhere = f"host={tmp_path} user=x dbname=x"
    with pytest.raises(psycopg.OperationalError) as third:
        psycopg.connect(nowhere)
    with pytest.raises(psycopg2.OperationalError) as second:
        psycopg2.connect(nowhere)
    with pytest.raises(exc.OperationalError) as wrapped:
        create_engine("postgresql+psycopg2://", connect_args={"host": str(tmp_path)}).connect()
    for error in (third.value, second.value, wrapped.value):
        told = plainly(error)
        assert told is not None
        assert told.what.startswith("the connection to the warehouse's server broke: ")
        assert "connection to server on socket" in told.what
        assert "\n" not in told.what
    engine = create_engine(settings.uri().replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as connection, pytest.raises(exc.ProgrammingError) as wrong:
        connection.execute(text("select nothing from nowhere"))
    assert plainly(wrong.value) is None


@pytest.mark.parametrize(
    ("error", "what", "where"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x"), "No space left on device", "/data/x"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/x"), "Permission denied", "/data/x"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error", ""),
    ],
)
def test_what_the_machine_refuses_is_told_with_the_file(error: OSError, what: str, where: str) -> None:
    told = plainly(error)
    assert told is not None
    assert (told.what, told.where) == (f"this machine refused: {what}", where)


def test_memory_that_is_exhausted_is_told() -> None:
    told = plainly(MemoryError())
    assert told is not None
    assert told.what == "this machine's memory is exhausted"


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("x"),
        KeyError("x"),
        OSError("a library's own, without a number"),
        type("OperationalError", (Exception,), {})("of no driver that we know"),
    ],
)
def test_whatever_else_may_be_a_defect(error: Exception) -> None:
    assert plainly(error) is None


def chained(*errors: Exception) -> BaseException:
    """Return the last of these errors, each caused by the one before it."""
    for index, error in enumerate(errors[1:]):
        error.__cause__ = errors[index]
    return errors[-1]


def test_of_a_chain_the_innermost_that_is_plain_counts() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    plain = GranaryError("the file is damaged")
    assert plainly(chained(KeyError("x"), plain, RuntimeError("a step failed"))) is plain
    told = plainly(chained(full, GranaryError("the load failed")))
    assert told is not None
    assert told.what == "this machine refused: No space left on device"
    circle = RuntimeError("round")
    circle.__cause__ = ValueError("and round")
    circle.__cause__.__cause__ = circle
    assert plainly(circle) is None


class Result:
    """A run of Dagster's whose only step failed with an error, which another one wraps."""

    def __init__(self, name: str) -> None:
        cause = SimpleNamespace(cause=None, cls_name=name, message="what\n  happened")
        error = SimpleNamespace(cause=cause, cls_name="DagsterExecutionStepExecutionError", message="Error in a step")
        failed = SimpleNamespace(
            is_step_failure=True, step_key="pos__transactions", event_specific_data=SimpleNamespace(error=error)
        )
        self.all_events: list[Any] = [SimpleNamespace(is_step_failure=False), failed]


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        *((name, True) for name in sorted(OUTSIDE)),
        ("OperationalError", True),
        ("psycopg.OperationalError", True),
        ("ZeroDivisionError", False),
        ("UniqueViolation", False),
        ("KeyError", False),
    ],
)
def test_a_step_that_nobody_explained_is_a_defect_unless_it_is_of_the_machine(
    tmp_path: Path, name: str, outside: bool
) -> None:
    [problem] = unexplained(Result(name), tmp_path / "run.log")  # type: ignore[arg-type]
    assert problem.what == "step pos__transactions failed: what happened"
    assert ("please report it" in problem.todo) is not outside


def test_the_names_of_what_is_outside_are_those_of_real_errors() -> None:
    """The list is of names, since Dagster keeps no more of an error: one that is misspelt would match nothing."""
    import builtins  # noqa: PLC0415

    import dagster_postgres.utils  # noqa: PLC0415

    places = (builtins, psycopg.errors, errors, connection, dagster_postgres.utils)
    assert [name for name in sorted(OUTSIDE) if not any(hasattr(place, name) for place in places)] == []


def test_a_run_without_an_error_of_a_step_points_to_its_log(tmp_path: Path) -> None:
    result: Any = SimpleNamespace(all_events=[])
    [problem] = unexplained(result, tmp_path / "run.log")
    assert (problem.what, problem.where, problem.todo) == ("the run failed", str(tmp_path / "run.log"), "read its log")
