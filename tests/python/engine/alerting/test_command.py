"""The commands, and the end of a run: an incident from its opening to its end, as a person sees it."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import granary
from granary.alerting import config, message
from granary.alerting.incidents import open_incidents
from granary.alerting.rules import BY_KIND, RULES
from granary.cli import guide
from granary.cli.alerts import after_a_run
from granary.cli.main import app
from granary.load.declared_tables import create_missing
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.project import PROJECT
from tests.python.engine.alerting.conftest import NOW, loaded, to_chat

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from granary.alerting.rules import Rule
    from granary.warehouse.settings import Settings
    from tests.python.support.receivers import Receiver

    Ask = Callable[..., list[tuple[Any, ...]]]

RUNBOOKS = PROJECT / "docs" / "engine" / "runbooks"
OF_INCIDENTS = (
    *("load-failed", "source-late", "files-not-loaded", "schema-change", "model-failed", "publish-held", "dead-run"),
    *("disk-full", "anomaly", "success-rate", "data-quality", "slow-marts", "stream-lag"),
)
SHELL = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def typed(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it printed."""
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def told(watched: Settings, chat: object, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the warehouse, with the receiver as the project's channel, in which a load has failed."""
    monkeypatch.setattr(config, "load", to_chat)
    loaded(watched, "receipts", "failed", NOW, "below its floor of 50%")
    return watched


def test_an_incident_from_its_opening_to_its_end(told: Settings, receiver: Receiver, ask: Ask) -> None:
    assert typed("incidents", "list") == (0, "No incident is open.")
    code, said = typed("alerts", "send")
    assert (code, said) == (0, "Open: 1 incident; changed: 1; sent: 1 alert.")
    assert receiver.bodies[0]["text"] == "[warning] New: till.receipts cannot be loaded"
    code, said = typed("incidents", "list")
    assert "till.receipts" in said
    assert "shops" in said
    code, said = typed("incidents", "show", "1")
    assert "[warning] Still open: till.receipts cannot be loaded" in said
    assert "below its floor of 50%" in said
    assert "Next: `granary load till.receipts`" in said
    shown = CliRunner().invoke(app, ["incidents", "show", "1", "--json"]).output
    assert json.loads(shown)["told"][0]["channel"] == "chat"
    assert typed("incidents", "ack", "1", "--by", "ada") == (
        0,
        "Incident 1 (till.receipts) is looked after by ada.",
    )
    code, said = typed("incidents", "mute", "1", "--for", "2d")
    assert (code, "is not told until" in said) == (0, True)
    assert typed("incidents", "mute", "1", "--off") == (0, "Incident 1 (till.receipts) is told again.")
    loaded(told, "receipts", "loaded", ask("select clock_timestamp()")[0][0])
    assert typed("alerts", "send")[1] == "Open: 0 incidents; changed: 1; sent: 1 alert."
    assert receiver.bodies[-1]["text"] == "[warning] Over: till.receipts is loaded again"
    assert "over since" in typed("incidents", "list", "--all")[1]


def test_what_waits_is_said_and_ends_with_1(told: Settings, receiver: Receiver) -> None:
    receiver.answers = [(500, {})]
    code, said = typed("alerts", "send")
    assert code == 1
    assert "1 wait for channel chat, until" in said
    assert "127.0.0.1 answered 500 (channel chat)" in said


def test_the_end_of_a_run_tells_and_fails_nothing(
    told: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    after_a_run(told)
    assert [one.cause for one in open_incidents(told)] == ["till.receipts"]
    assert len(receiver.taken) == 1
    monkeypatch.undo()
    monkeypatch.setattr(config, "load", lambda: config._Reader("alerts.yml").config({"tel": {}}))
    after_a_run(told)
    assert "granary: incidents: alerts: the file has 'tel'" in capsys.readouterr().err


def test_a_sample_reaches_each_channel(told: Settings, receiver: Receiver) -> None:
    assert typed("alerts", "test") == (0, "chat: taken")
    assert receiver.bodies[0]["text"] == "[warning] Sample: alerts reach you"
    receiver.answers = [(404, {})]
    code, said = typed("alerts", "test", "chat")
    assert (code, said) == (1, "granary: chat: 127.0.0.1 answered 404 (channel chat); check THE_CHAT")


def test_following_looks_until_it_is_stopped(told: Settings, ask: Ask) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from granary.cli.main import main; main()", "alerts", "send", "--follow"],
        env=told.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "Open: 1 incident; changed: 1" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert ask("select cause from ops.incidents") == [("till.receipts",)]


def parse(line: str) -> None:
    """Read a command as the command line does, and run nothing; what is wrong in it is raised."""
    program, *words = shlex.split(line)
    assert program == "granary"
    command: Any = get_command(app)
    while words and (subcommands := getattr(command, "commands", None)):
        command = subcommands[words.pop(0)]
    command.make_context(line, words).close()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_the_next_command_of_a_rule_is_one(rule: Rule) -> None:
    parse(message._next(rule.todo, "till.receipts"))


def test_what_has_ended_is_begun_again_by_its_own_command(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = SimpleNamespace(capture=object())
    monkeypatch.setattr(message, "SOURCES", {"office": captured, "events": SimpleNamespace(capture=None)})
    todo = BY_KIND["process_ended"].todo
    assert message._next(todo, "office") == "granary capture office --follow"
    assert message._next(todo, "events") == "granary stream events"


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_a_command_of_any_runbook_is_one(page: Path) -> None:
    """Whether it works is tried below, where nothing is restored or deleted by it."""
    lines = [line for block in SHELL.findall(page.read_text()) for line in block.splitlines()]
    for line in [line.partition("  #")[0].partition(" >")[0].strip() for line in lines]:
        if line.startswith("granary"):
            parse(line)


def test_a_runbook_is_printed_where_there_is_no_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (RUNBOOKS / "source-late.md").read_text()
    assert CliRunner().invoke(app, ["guide", "runbooks/source-late"]).output == page
    assert "runbooks/source-late" in typed("guide")[1]
    with pytest.raises(UsageError, match="there is no page 'runbooks/source-lat'; did you mean runbooks/source-late"):
        CliRunner().invoke(app, ["guide", "runbooks/source-lat"], catch_exceptions=False)
    monkeypatch.setattr(guide, "CLONE", RUNBOOKS / "of no clone")
    monkeypatch.setattr(guide, "INSTALLED", RUNBOOKS.parent)
    assert {f"runbooks/{rule.runbook}" for rule in RULES} <= set(guide.pages())


def test_a_page_that_a_message_names_is_there() -> None:
    named = [
        (path, name)
        for path in sorted(Path(granary.__file__).parent.rglob("*"))
        if path.suffix in (".py", ".sql", ".sh")
        for name in re.findall(r"granary guide ([a-z][A-Za-z/-]*)", path.read_text())
    ]
    assert len(named) > 20
    of_rules_and_kinds = {"runbooks/", "sources/"}
    assert {name for _, name in named} - set(guide.pages()) <= of_rules_and_kinds


def commands() -> list[str]:
    """Return every command of the runbooks of incidents, in the words of the shop of these tests.

    `granary run` by itself is what the tests of the main job are about.
    """
    found = dict.fromkeys(
        line.partition("  #")[0].strip().replace("shop.orders", "till.receipts")
        for name in OF_INCIDENTS
        for block in SHELL.findall((RUNBOOKS / f"{name}.md").read_text())
        for line in block.splitlines()
    )
    return [line for line in found if line and line != "granary run"]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_runbooks_of_incidents_works(
    told: Settings, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does what it says, or says in one sentence why it cannot here; it is no wrong use, and no defect."""
    (tmp_path / "receipts").mkdir()
    monkeypatch.setenv("GRANARY_TILL_LANDING", str(tmp_path))
    create_missing(told)
    typed("alerts", "send")
    program, *arguments = shlex.split(command)
    assert program == "granary"
    done = CliRunner().invoke(app, arguments)
    if isinstance(done.exception, SystemExit) or done.exception is None:
        assert done.exit_code in (0, 1), done.output
    else:
        assert isinstance(done.exception, GranaryError), done.exception
        is_first = str(done.exception).startswith("there was no run yet")
        assert is_first or not isinstance(done.exception, UsageError), done.exception
