"""What was typed wrong: one sentence that says what was meant, and exit code 2, wherever it is typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from granary.cli.main import main
from granary.warehouse.errors import UsageError, unknown
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

GRANARY = PROJECT / ".venv" / "bin" / "granary"


def typed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GRANARY, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"} | environment,
    )


@pytest.fixture
def refused(
    warehouse: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Return a function that runs the command in this process, which is to end with 2, and returns what it said."""
    monkeypatch.setenv("COLUMNS", "200")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    assert warehouse.home.exists()

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["granary", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = " ".join(capsys.readouterr().err.split())
        assert ended.value.code == 2, said
        return said

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ui", "--port", "99999"), "--port"),
        (("ui", "--port", "-1"), "--port"),
        (("docs", "--port", "65536"), "--port"),
        (("dashboard", "--port", "x"), "--port"),
        (("run", "--from", "2017-13-01"), "'2017-13-01' is not a date; write YYYY-MM-DD"),
        (("load", "--to", "soon"), "'soon' is not a date; write YYYY-MM-DD"),
        (("run", "--from", "2017-03-01"), "--from and --to go together"),
        (("load", "tills"), "there is no source or table 'tills'; did you mean till?"),
        (("load", "till.receipt"), "did you mean till.receipts?"),
        (("load", "receipts"), "did you mean till.receipts?"),
        (("load", "TILL"), "did you mean till?"),
        (("quarantine", "list", "office.member"), "did you mean office.members?"),
        (("replay", "event"), "did you mean events?"),
    ],
)
def test_what_was_typed_wrong_ends_with_2_and_says_so(
    refused: Callable[..., str], arguments: tuple[str, ...], said: str
) -> None:
    told = refused(*arguments)
    assert said in told
    assert "defect" not in told


@pytest.mark.parametrize("arguments", [("stream", "event"), ("roles", "grant", "ann", "analyts"), ("logs", "zzzz")])
def test_other_names_that_there_are_not_end_with_2_too(refused: Callable[..., str], arguments: tuple[str, ...]) -> None:
    assert "defect" not in refused(*arguments)


def test_the_command_itself_ends_with_2(warehouse: Settings) -> None:
    done = typed("load", "tills", **warehouse.environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no source or table 'tills'; did you mean till?" in done.stderr


def test_a_name_far_from_all_is_answered_with_all() -> None:
    assert (
        str(unknown("source", "zebra", ["till", "office"])) == "there is no source 'zebra'; choose one of till, office"
    )
    assert isinstance(unknown("source", "zebra", []), UsageError)


def test_a_command_that_only_looks_makes_no_warehouse(tmp_path: Path) -> None:
    for arguments in (("psql",), ("runs",), ("logs",), ("diff", "fct_sales"), ("dashboard",)):
        done = typed(*arguments, GRANARY_HOME=str(tmp_path), PGDATABASE="")
        assert done.returncode == 1
        assert "there is no warehouse" in done.stderr
        assert not (tmp_path / "data").exists()


def test_the_version_and_completion_are_there() -> None:
    done = typed("--version")
    assert done.stdout.startswith("granary 0.")
    assert "--show-completion" in typed("--help").stdout


@pytest.mark.parametrize("command", [("load",), ("up",), ("run",), ("psql", "-c", "select 1")])
def test_without_a_project_nothing_is_made(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = typed(*command, GRANARY_PROJECT=str(tmp_path), GRANARY_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    assert f"granary: there is no project ({tmp_path}); go into the folder of one" in done.stderr
    assert not (tmp_path / "home" / "data").exists()


def test_a_load_of_no_source_says_so(warehouse: Settings, tmp_path: Path) -> None:
    for name in ("dbt_project.yml", "profiles.yml"):
        (tmp_path / name).write_text("")
    done = typed("load", **{**warehouse.environment(), "GRANARY_PROJECT": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert "granary: the project has no source (ingestion/); add one: `granary add-source NAME WHERE`" in done.stderr
