"""Where a setting's value may be kept, and that a secret is found nowhere else: one is planted, and searched for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from granary.sources import config
from granary.sources.config import problems, setting
from granary.warehouse.connection import connect, query, quote_relation
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

PLANTED = "pl4nted-s3cret-of-the-office"
NAME = "GRANARY_OFFICE_URL"
TABLES = """
select n.nspname::text, c.relname::text from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and n.nspname !~ '^(pg_|information_schema)' order by 1, 2
"""


def printing(text: str) -> str:
    """Return a command that prints a text."""
    return f"""{sys.executable} -c 'print("{text}")'"""


def test_a_value_is_in_a_file_or_printed_by_a_command(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("of-file\n")
    for name, value, wanted in (
        (NAME, "itself", "itself"),
        (f"{NAME}_FILE", str(file), "of-file"),
        (f"{NAME}_COMMAND", printing("of-command"), "of-command"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert setting(settings, NAME) == wanted


def test_the_owner_only_file_may_say_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_HOME", str(tmp_path))
    (tmp_path / "secret").write_text("of-file")
    lines = tmp_path / "sources.env"
    lines.write_text(f"{NAME}_FILE={tmp_path / 'secret'}\n")
    lines.chmod(0o600)
    here: Any = type("Here", (), {"home": tmp_path})()
    assert setting(here, NAME) == "of-file"
    assert problems(here, {NAME}) == []
    lines.write_text(f"{NAME}_FILE={tmp_path / 'secret'}\n{NAME}=itself\n")
    with pytest.raises(GranaryError, match=f"{NAME} and {NAME}_FILE are both set .*keep one of them"):
        setting(here, NAME)
    monkeypatch.setenv(NAME, "of-environment")
    assert setting(here, NAME) == "of-environment"


@pytest.mark.parametrize(
    ("way", "told", "why"),
    [
        ("_FILE", "/nowhere/secret", "No such file or directory"),
        ("_FILE", "/dev/null", "there is no secret"),
        ("_FILE", "{folder}/bytes", "a secret cannot be read: no text"),
        ("_COMMAND", "no-such-command", "FileNotFoundError"),
        ("_COMMAND", f"{sys.executable} -c 'print(1); raise SystemExit(3)'", "exit code 3"),
        ("_COMMAND", "cat 'unclosed", "ValueError"),
        ("_COMMAND", "true", "there is no secret"),
    ],
)
def test_what_gives_no_value_is_said_and_never_what_it_gave(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, told: str, why: str
) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff" + PLANTED.encode())
    monkeypatch.setenv(NAME + way, told.replace("{folder}", str(tmp_path)))
    with pytest.raises(GranaryError) as failed:
        setting(settings, NAME)
    assert why in str(failed.value)
    assert PLANTED not in str(failed.value)


def test_no_shell_runs_a_command_and_it_is_asked_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    script = tmp_path / "vault.py"
    script.write_text(f"import sys\nopen({str(count)!r}, 'a').write('x')\nprint(sys.argv[1])\n")
    monkeypatch.setenv(f"{NAME}_COMMAND", f"{sys.executable} {script} '$HOME; `id`'")
    assert setting(settings, NAME) == setting(settings, NAME) == "$HOME; `id`"
    assert count.read_text() == "x"
    monkeypatch.setattr(config, "KEPT_SECONDS", -1)
    setting(settings, NAME)
    assert count.read_text() == "xx"


def everything(settings: Settings) -> list[str]:
    """Return where the planted secret is: tables of the warehouse and of Dagster's storage, and files of the home."""
    found = []
    for database in (settings.database, settings.dagster_database):
        with connect(settings, database) as connection:
            for schema, name in query(connection, TABLES):
                relation = quote_relation(str(schema), str(name))
                if query(connection, f"select 1 from {relation} as t where t::text like $1 limit 1", f"%{PLANTED}%"):
                    found.append(f"{database}: {relation}")
    for path in settings.home.rglob("*"):
        if path.is_file() and PLANTED.encode() in path.read_bytes():
            found.append(str(path.relative_to(settings.home)))
    return found


class Watcher(threading.Thread):
    """Reads every command line of the machine again and again, as `ps` would."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.looks = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if PLANTED in line:
                    self.seen.add(line)
            self.looks += 1


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads command lines in /proc")
def test_a_planted_secret_is_found_nowhere(warehouse: Settings, tmp_path: Path) -> None:
    """A load and a run of Dagster's that fail with it, a crash that has it, a role's password: then all is read."""
    secret = tmp_path / "secret"
    secret.write_text(f"postgresql://office:{PLANTED}@127.0.0.1:1/office?password={PLANTED}\n")
    environment = warehouse.environment() | {
        f"{NAME}_FILE": str(secret),
        "GRANARY_EVENTS_WEBHOOK_SECRETS_FILE": str(secret),
        "PGPASSWORD": PLANTED,
    }
    crash = (
        "import granary.sources.select as s, granary.sources.config as c\n"
        "from granary.cli import main\n"
        "def boom(*_, **__):\n"
        f"    value = c.setting(c_settings, {NAME!r})\n"
        "    raise ZeroDivisionError('in a defect')\n"
        "from granary.warehouse.settings import Settings\n"
        "c_settings = Settings.load()\n"
        "s.select = boom\n"
        "import sys; sys.argv = ['granary', 'load', 'office']\n"
        "main.main()\n"
    )
    watcher = Watcher()
    watcher.start()
    said = ""
    try:
        for program, given in (
            (["granary", "load", "office"], ""),
            (["granary", "run", "--json"], ""),
            (["-c", crash], ""),
            (["granary", "roles", "grant", "planted_ada", "analyst", "--password"], PLANTED + "\n"),
            (["granary", "status", "--json"], ""),
        ):
            words = program if program[0] == "-c" else ["-c", RUN, *program[1:]]
            done = subprocess.run(
                [sys.executable, *words],
                env=environment, input=given, capture_output=True, text=True, check=False,
                cwd=os.environ["GRANARY_PROJECT"],
            )  # fmt: skip
            said += done.stdout + done.stderr
    finally:
        watcher.ended.set()
        watcher.join()
        with connect(warehouse, autocommit=True) as connection:
            connection.cursor().execute(b"drop role if exists planted_ada")
    assert "office" in said
    assert "a defect in Granary" in said
    assert PLANTED not in said
    assert everything(warehouse) == []
    assert watcher.looks > 0
    assert watcher.seen == set()


RUN = "from granary.cli.main import main; main()"
