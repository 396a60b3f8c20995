"""dbt that is started before its work is known: it is given one command, or ends; and Dagster does without it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from granary.dbt import ahead, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

COMMAND = [*manifest.DBT, "build", "--select", "rentals"]
WAITS = "import sys; order = sys.stdin.readline(); print('ran', order, end='')"


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[bytes]]:
    """Have a process wait in the place of dbt's."""
    process = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ahead._waiting.append(process)
    yield process
    ahead.stop()
    process.kill()
    process.wait()


def test_what_waits_is_given_one_command_and_is_called_by_it(waiting: subprocess.Popen[bytes]) -> None:
    taken = ahead.take(COMMAND, {"PGHOST": "here"})
    assert taken is waiting
    assert taken.args == COMMAND
    assert taken.stdout is not None
    order = json.loads(taken.stdout.read().removeprefix(b"ran "))
    assert order == [["build", "--select", "rentals"], {"PGHOST": "here"}]
    assert ahead.take(COMMAND, {}) is None, "it is there for one command"


def test_what_died_while_it_waited_is_not_taken(waiting: subprocess.Popen[bytes]) -> None:
    waiting.kill()
    waiting.wait()
    assert ahead.take(COMMAND, {}) is None


def test_what_nobody_needed_is_gone(waiting: subprocess.Popen[bytes]) -> None:
    ahead.stop()
    assert waiting.returncode is not None
    assert ahead.take(COMMAND, {}) is None


def test_a_project_that_is_not_parsed_is_not_parsed_twice(settings: Settings) -> None:
    ahead.start(settings, "changed since")
    assert ahead.take(COMMAND, {}) is None


def test_dagster_starts_without_dbt() -> None:
    """It has names of its own for what it takes of dbt, of which the imports take a second."""
    code = "import sys, granary.dagster.assemble; print([name for name in sys.modules if name.startswith('dbt.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_dagster_starts_without_what_nobody_asks_for() -> None:
    """Neither pandas nor Polars, which Arrow's driver would find, nor dbt Cloud: dagster-dbt itself has all of it."""
    code = (
        "import sys, granary.dagster.assemble;"
        "names = ('pandas', 'polars', 'pyarrow.dataset', 'dagster_dbt', 'dagster_dbt.cloud');"
        "print([name for name in names if name in sys.modules]);"
        "import pyarrow.dataset, dagster_dbt as all, granary.dagster.dagster_dbt_alone as alone;"
        "print(all.dbt_assets is alone.dbt_assets, all.DbtCloudResource.__name__, pyarrow.dataset.Scanner.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True DbtCloudResource Scanner"]
