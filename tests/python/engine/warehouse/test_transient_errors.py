"""What is worth another try: somebody who does not answer or is busy; not what somebody has to repair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors

from granary.warehouse.connection import connect_uri
from granary.warehouse.environment_errors import plainly
from granary.warehouse.errors import GranaryError, TransientError

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (errors.AdminShutdown("terminating connection"), True),
        (errors.CannotConnectNow("starting up"), True),
        (errors.DeadlockDetected("deadlock"), True),
        (errors.LockNotAvailable("lock timeout"), True),
        (errors.TooManyConnections("too many"), True),
        (errors.DiskFull("no space"), False),
        (errors.InsufficientPrivilege("denied"), False),
        (errors.InvalidPassword("no"), False),
        (OSError(28, "No space left on device"), False),
        (MemoryError(), False),
        (TransientError("busy"), True),
        (GranaryError("broken contract"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, passes: bool) -> None:
    plain = plainly(error)
    assert plain is not None
    assert isinstance(plain, TransientError) is passes


def test_what_hides_behind_another_error_counts() -> None:
    error = GranaryError("the load was interrupted")
    error.__cause__ = errors.AdminShutdown("terminating connection")
    assert isinstance(plainly(error), TransientError)


def test_a_server_that_is_not_there_may_come(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="cannot connect to Postgres"):
        connect_uri(f"postgresql:///x?host={tmp_path}", "there", "start it")
    with pytest.raises(GranaryError) as refused:
        connect_uri(settings.uri("no_such_database"), "there", "make it")
    assert not isinstance(refused.value, TransientError)
