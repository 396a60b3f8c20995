"""`granary upgrade`: from the wheel of one version to that of the next, on a warehouse that is loaded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.scaffold import new_project
from granary.warehouse import migrate
from granary.warehouse.connection import connect, execute
from granary.warehouse.project import PROJECT
from tests.python.support.command import granary
from tests.python.support.earlier_warehouse import CONTENT, content, earlier, schema_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

ENGINE = ("granary", "pyproject.toml", "README.md", "LICENSE", "dbt_granary.py", "requirements.lock")
LEFT_OUT = {"halo": "0.0.31", "update_checker": "0.18.0"}
"""What dbt-metricflow asks for and this environment does without (see pyproject.toml): pip has to believe in them."""
KNOWN = [path.name for path in sorted(migrate.FOLDER.glob("[0-9]*.sql"))]
LATER = "9001_ledger_notes.sql"


def wheel(folder: Path, version: str, changed: dict[str, tuple[str, str]]) -> Path:
    """Build the engine in a version, with files in which one text is replaced by another."""
    source = folder / version
    source.mkdir()
    for name in ENGINE:
        path = Path(migrate.__file__).parents[2] / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        else:
            shutil.copy(path, source / name)
    for name, (before, after) in changed.items():
        text = (source / name).read_text() if before else ""
        assert before in text
        (source / name).write_text(text.replace(before, after, 1) if before else after)
    pip = (sys.executable, "-m", "pip", "--quiet", "wheel", "--no-build-isolation", "--no-deps", "--no-index")
    subprocess.run([*pip, "--wheel-dir", str(folder), str(source)], check=True)
    return folder / f"granary_elt-{version}-py3-none-any.whl"


def git(project: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    return subprocess.run(["git", *who, *words], cwd=project, check=True, capture_output=True, text=True).stdout


def environment(project: Path, engine: Path) -> None:
    """Make the project's .venv: the engine from a wheel, what it stands on from where these tests have it."""
    venv.create(project / ".venv", with_pip=False, symlinks=True)
    paths = {"base": str(project / ".venv"), "platbase": str(project / ".venv")}
    own = Path(sysconfig.get_path("purelib", "venv" if sys.version_info >= (3, 11) else "posix_prefix", paths))
    (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name, version in LEFT_OUT.items():
        (own / f"{name}-{version}.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (own / f"{name}-{version}.dist-info" / "METADATA").write_text(metadata)
    python = str(project / ".venv" / "bin" / "python")
    pip = (python, "-m", "pip", "--quiet", "install", "--no-index", "--no-deps", "--force-reinstall")
    subprocess.run([*pip, str(engine)], check=True)


def upgrade(project: Path, settings: Settings, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(project / ".venv" / "bin" / "granary"), "upgrade", *options],
        cwd=project,
        env=settings.environment()
        | {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(project.parent),
            "PYTHONPATH": "",
            "GRANARY_PROJECT": str(project),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_from_one_wheel_to_the_next_on_a_loaded_warehouse(warehouse: Settings, rows: Rows, tmp_path: Path) -> None:
    makefile = "granary/scaffold/template/Makefile"
    readme = "granary/scaffold/template/README.md"
    version = ('version = "0.1.0"', 'version = "0.2.0"')
    old = wheel(tmp_path, "0.1.0", {})
    new = wheel(
        tmp_path,
        "0.2.0",
        {
            "pyproject.toml": version,
            f"granary/warehouse/migrations/{LATER}": ("", "alter table ops.load_audit add column note text;\n"),
            makefile: (".DEFAULT_GOAL := help\n", ".DEFAULT_GOAL := help\nSHELL := /bin/sh\n"),
            readme: ("everything in this folder is yours", "all of this folder is yours"),
        },
    )
    made = new_project.plan(tmp_path / "shop", "UTC", date(2024, 1, 1), old)
    new_project.make(made)
    project = made.folder
    own = (project / "README.md").read_text() + "\nOur own words.\n"
    (project / "README.md").write_text(own)
    git(project, "commit", "-qam", "Say more")
    environment(project, old)
    earlier(warehouse, "unnumbered.sql")

    done = upgrade(project, warehouse, "--to", str(new))
    assert done.returncode == 0, done.stderr
    assert f"The engine is 0.2.0.\nMigrations: {', '.join([*KNOWN, LATER])}.\n" in done.stderr
    assert re.findall(r"^([\w.]+): changed in the template (and (?:not )?by you)", done.stderr, re.M) == [
        ("Makefile", "and not by you"),
        ("README.md", "and by you"),
        ("requirements.txt", "and not by you"),
    ]
    assert "+SHELL := /bin/sh\n" in done.stdout
    assert f"-granary-elt[{new_project.EXTRAS}] @ {old.as_uri()}\n" in done.stdout
    assert f"+granary-elt[{new_project.EXTRAS}] @ {new.as_uri()}\n" in done.stdout
    assert git(project, "status", "--porcelain") == ""
    assert content(rows) == CONTENT
    assert rows("select name, engine from ops.migrations order by number") == [
        (name, "0.2.0") for name in ("functions.sql", *KNOWN, LATER)
    ]

    back = upgrade(project, warehouse, "--to", "0.1.0")
    assert back.returncode == 1
    assert f"unknown or newer version: it has had the migration {LATER} by engine 0.2.0" in back.stderr

    applied = upgrade(project, warehouse, "--apply")
    assert applied.returncode == 0, applied.stderr
    assert "The engine is 0.2.0.\nThe warehouse's tables are up to date.\nMakefile: written\n" in applied.stderr
    assert applied.stdout.startswith("--- a/README.md\n+++ b/README.md\n")
    changed = [".granary-project.json", "Makefile", "requirements.txt"]
    assert git(project, "diff", "--name-only").split() == changed
    assert (project / "README.md").read_text() == own

    again = upgrade(project, warehouse, "--apply")
    assert again.returncode == 1
    assert "uncommitted changes: .granary-project.json, Makefile, requirements.txt" in again.stderr
    git(project, "commit", "-qam", "Follow the template")
    (left,) = json.loads(upgrade(project, warehouse, "--json").stdout)["left"]
    assert (left["path"], left["state"]) == ("README.md", "edited")


def test_a_clone_has_its_warehouse_migrated_and_its_files_left(warehouse: Settings, rows: Rows) -> None:
    new = schema_text(warehouse)
    earlier(warehouse, "unnumbered.sql")
    done = granary(warehouse, "upgrade")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"Migrations: {', '.join(KNOWN)}.\n" in done.stderr
    assert "was not made by `granary init`" in done.stderr
    assert schema_text(warehouse) == new
    assert content(rows) == CONTENT
    assert json.loads(granary(warehouse, "upgrade", "--json").stdout)["migrations"] == []


def test_a_warehouse_of_a_newer_engine_is_refused_by_every_command_that_prepares(
    warehouse: Settings, tmp_path: Path
) -> None:
    with connect(warehouse) as connection:
        execute(
            connection,
            "insert into ops.migrations (number, name, sha256, engine) values (9007, '9007_more.sql', 'x', '9.1.0')",
        )
        connection.commit()
    before = schema_text(warehouse)
    for command in (("upgrade",), ("roles",), ("load",)):
        done = granary(warehouse, *command)
        assert done.returncode == 1
        assert "unknown or newer version: it has had the migration 9007_more.sql by engine 9.1.0" in done.stderr
    assert schema_text(warehouse) == before


def test_a_warehouse_that_is_down_is_said_before_anything_is_done(
    warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRANARY_HOME", str(tmp_path))
    monkeypatch.delenv("PGHOST", raising=False)
    command = [sys.executable, "-c", "from granary.cli.main import main; main()", "upgrade", "--to", "nowhere.whl"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "start it with `granary up`" in done.stderr


@pytest.mark.parametrize(
    ("to", "code", "said"),
    [
        ("nowhere.whl", 1, "this is not a wheel of the engine"),
        ("other_tool-1.0-py3-none-any.whl", 1, "this is not a wheel of the engine"),
        ("newest", 2, "'newest' is not a version of the engine"),
    ],
)
def test_what_is_no_engine_is_not_installed(warehouse: Settings, to: str, code: int, said: str) -> None:
    done = granary(warehouse, "upgrade", "--to", to)
    assert done.returncode == code
    assert said in done.stderr
