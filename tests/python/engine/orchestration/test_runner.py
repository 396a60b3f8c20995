"""Whoever has dbt build does so by one runner: under the lock, in a clean folder, with what failed as problems."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import granary
from granary.dbt import manifest, run_events
from granary.dbt.runner import BUILD, BuildError, Runner
from granary.warehouse.build_lock import building
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

ENGINE = Path(granary.__file__).parent
MODEL = {"name": "rentals", "resource_type": "model", "config": {}, "original_file_path": "models/rentals.sql"}
DBT = """
import json, os, pathlib, sys
import psycopg
from granary.warehouse.settings import Settings
target = pathlib.Path(os.environ["DBT_TARGET_PATH"])
with psycopg.connect(Settings.load().uri(role="transformer")) as session:
    (free,) = session.execute("select pg_try_advisory_lock(ops.build_lock('marts'))").fetchone()
seen = {
    "arguments": sys.argv[1:],
    "erasing": os.environ.get("GRANARY_ERASING"),
    "locked": (not free, os.environ.get("GRANARY_BUILDING")),
    "found": sorted(path.name for path in target.iterdir()),
}
(target / "seen.json").write_text(json.dumps(seen))
how = sys.argv[-1]
if how == "waits":
    print("up", flush=True)
    import time
    time.sleep(600)
if how != "dies":
    status = "error" if how == "fails" else "success"
    results = [{"unique_id": "model.a.rentals", "status": status, "message": "no disk"}]
    (target / "run_results.json").write_text(json.dumps({"results": results}))
sys.exit(0 if how == "works" else 1)
"""


@pytest.fixture
def made(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Return a runner whose dbt says what it was given."""
    (tmp_path / "dbt.py").write_text(DBT)
    monkeypatch.setattr(manifest, "DBT", (sys.executable, str(tmp_path / "dbt.py")))
    home = manifest.folder(settings)
    home.mkdir(parents=True, exist_ok=True)
    (home / manifest.PARTIAL_PARSE).write_text("parsed")
    return Runner(settings, {"nodes": {"model.a.rentals": MODEL}}, home / "runs")


def seen(runner: Runner) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((runner.target / "seen.json").read_text())
    return found


def test_a_build_holds_the_lock_and_begins_with_the_parsed_project_and_no_results(made: Runner) -> None:
    made.run([*BUILD, "works"], GRANARY_ERASING="yes")
    assert seen(made) == {
        "arguments": ["build", "--exclude-resource-type", "unit_test", "works"],
        "erasing": "yes",
        "locked": [True, "yes"],
        "found": [manifest.PARTIAL_PARSE],
    }
    assert [result["status"] for result in made.results()] == ["success"]
    with pytest.raises(BuildError):
        made.run([*BUILD, "dies"])
    assert made.results() == []  # those of the build before are no answer
    with building(made.settings, "marts", print, print, seconds=0):
        pass


def test_a_retry_finds_the_results_that_it_goes_on_from(made: Runner) -> None:
    made.run([*BUILD, "works"])
    made.run(["retry", "works"])
    assert "run_results.json" in seen(made)["found"]


@pytest.mark.parametrize(
    ("how", "words"),
    [("fails", "model rentals failed: no disk (models/rentals.sql)"), ("dies", "dbt stopped: it left no results")],
)
def test_what_failed_is_raised_as_problems(made: Runner, how: str, words: str) -> None:
    with pytest.raises(BuildError) as raised:
        made.run([*BUILD, how])
    assert raised.value.transient
    assert [str(problem).startswith(words) for problem in raised.value.problems] == [True]


def test_a_build_that_is_broken_off_leaves_no_process(made: Runner) -> None:
    import subprocess  # noqa: PLC0415 - here only
    from types import SimpleNamespace  # noqa: PLC0415

    def start(command: list[str], environment: dict[str, str]) -> SimpleNamespace:
        return SimpleNamespace(process=subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))

    def work() -> None:
        with made.running([*BUILD, "waits"], start) as started:
            assert started.process.stdout.readline() == b"up\n"
            found.append(started.process)
            raise KeyboardInterrupt

    found: list[subprocess.Popen[bytes]] = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert found[0].returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(found[0].pid, 0)


def test_a_second_build_waits_and_gives_up(made: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building.__wrapped__, "__defaults__", (0,))  # type: ignore[attr-defined]
    said: list[Any] = []
    with (
        run_events.listening(said.append),
        building(made.settings, "marts", print, print),
        pytest.raises(GranaryError, match="another process is building marts"),
    ):
        made.run([*BUILD, "works"])
    assert [(event.kind, event.detail.partition(": pid")[0]) for event in said] == [
        ("waiting", "waiting: another process is building marts")
    ]


@pytest.mark.parametrize(
    ("word", "modules"),
    [
        (r"\bbuilding\(", {"dbt/runner.py", "warehouse/build_lock.py"}),
        (
            r"\bDBT\b",
            {"dbt/manifest.py", "dbt/ahead.py", "dbt/runner.py", "cli/serve.py", "spark/streaming/models.py"},
        ),
        # parses, gets ready, builds, writes documentation, compiles what a stream computes
        (r"granary\.dbt\.process", {"dbt/manifest.py", "dbt/process.py"}),
        (r"\bproblems_of\(", {"dbt/failures.py", "dbt/runner.py"}),
        (r'"--exclude-resource-type"', {"dbt/runner.py"}),
    ],
)
def test_the_engine_has_one_way_to_have_dbt_build(word: str, modules: set[str]) -> None:
    found = {str(path.relative_to(ENGINE)) for path in ENGINE.rglob("*.py") if re.search(word, path.read_text())}
    assert found == modules


def test_what_python_compiles_is_no_change_of_the_project(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linters leave such files in the package's folder; nothing is built again because of them."""
    monkeypatch.setattr(manifest, "PROJECT_DIR", tmp_path)
    model = tmp_path / "models" / "a.sql"
    model.parent.mkdir()
    model.write_text("select 1")
    before = manifest.fingerprint(settings)
    (tmp_path / "models" / "a.pyc").write_text("")
    assert manifest.fingerprint(settings) == before
    model.write_text("select 12")
    assert manifest.fingerprint(settings) != before
