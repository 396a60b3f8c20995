"""What has to work before a release is let to people: marts can be read, definitions load, services are up."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from granary.dagster.instance import MODULE, environment, prepare_instance
from granary.supervisor import state
from granary.warehouse.connection import connect, execute, query, quote_relation, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

READ_SECONDS = 60
"""How long the first row of a mart may take."""
UP_SECONDS = 180
"""How long services may take to be up."""
PAUSE_SECONDS = 0.5
RAISED = re.compile(r"(?m)^\s*([\w.]*(?:Error|Exception): .+)$")
"""The last line of a traceback."""
MARTS = """
    select n.nspname::text, c.relname::text
    from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname ~ '(^|_)marts$' and c.relkind in ('r', 'v', 'm', 'p') and not c.relispartition
        and has_table_privilege('analyst', c.oid, 'select')
    order by 1, 2
"""
"""Those of every target: dev_ada_marts, too."""


@dataclass(frozen=True)
class Tried:
    """What was tried, how many seconds it took, and what did not work."""

    name: str
    seconds: float
    problem: str | None = None


def tries(settings: Settings, *, served: bool) -> tuple[Tried, ...]:
    """Try everything, the next thing also if one does not work.

    Services are waited for if they are `served`; the code server among them is up once the definitions have loaded.
    """
    marts: list[tuple[str, str]] = []

    def ask() -> None:
        with connect(settings) as connection:
            marts.extend((str(schema), str(name)) for schema, name in query(connection, MARTS))

    tried = [_try("the warehouse", ask)]
    tried += [_try(".".join(mart), partial(_read, settings, *mart)) for mart in marts]
    last = ("the services", _wait) if served else ("the definitions", _validate)
    tried.append(_try(last[0], partial(last[1], settings)))
    return tuple(tried)


def _try(name: str, work: Callable[[], None]) -> Tried:
    began, problem = time.monotonic(), None
    try:
        work()
    except GranaryError as error:
        problem = str(error)
    except psycopg.Error as error:
        problem = reason(error)
    return Tried(name, time.monotonic() - began, problem)


def _read(settings: Settings, schema: str, mart: str) -> None:
    """Read a row of a mart as an analyst does, all its columns."""
    with connect(settings, role="analyst") as connection:
        execute(connection, f"set statement_timeout = '{READ_SECONDS}s'")
        query(connection, f"select * from {quote_relation(schema, mart)} limit 1")


def _validate(settings: Settings) -> None:
    """Have Dagster find the project's definitions.

    Raises:
        GranaryError: it does not.
    """
    prepare_instance(settings)
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "--module-name", MODULE]
    done = subprocess.run(command, cwd=PROJECT, env=environment(settings), capture_output=True, text=True, check=False)
    if done.returncode:
        words = RAISED.findall(done.stdout + done.stderr) or ["it does not say why"]
        raise GranaryError(
            f"Dagster does not find the definitions: {words[-1][:300]}",
            str(PROJECT / "orchestration"),
            f"see `python -m dagster definitions validate --module-name {MODULE}`",
        )


def _wait(settings: Settings) -> None:
    """Wait until every service is up.

    Raises:
        GranaryError: they are not, after some time.
    """
    until = time.monotonic() + UP_SECONDS
    while True:
        states = state.read(settings)
        down = [one.name for one in states if one.status != "up"]
        if states and not down:
            return
        if time.monotonic() > until:
            what = f"not up after {UP_SECONDS} s: {', '.join(down)}" if states else "nothing is served"
            raise GranaryError(what, str(settings.home / "logs"), "see the logs there")
        time.sleep(PAUSE_SECONDS)
