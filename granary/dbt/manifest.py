"""dbt's manifest for Dagster: made by `dbt parse` when it is missing or older than the project, else reused.

It lies in the warehouse's home, not in the project's `target/`, so a `dbt run --target dev` in a shell does not change
what Dagster thinks the tables are called. dagster-dbt's own preparer is not used: whenever there is a packages file it
runs `dbt deps`, which needs the hub, and it parses on every reload.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import meta
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.warehouse.settings import Settings

PROJECT_DIR = PROJECT
FILES = ("dbt_project.yml", "packages.yml", "profiles.yml", "selectors.yml")
FOLDERS = ("models", "snapshots", "seeds", "macros", "tests/dbt")
MANIFEST, STAMP = "manifest.json", "manifest.fingerprint"
PARTIAL_PARSE = "partial_parse.msgpack"
PARSED = "GRANARY_PARSED"
"""The variable with the path of the parsed project, for a dbt that has no work yet."""
INCREMENTAL_VARS = {"test_scope": "new"}
"""Vars of every run that is not a full refresh. dbt parses everything again when the vars differ from those of the
last parse (3 s here), so the manifest is parsed with them."""
PARSE_SECONDS = 300
"""How long another process may parse before those that wait for it give up."""
DBT = (sys.executable, "-m", "granary.dbt.process")
"""The dbt of this environment, whether or not the environment is activated."""


def folder(settings: Settings) -> Path:
    """Return where Dagster keeps its dbt artifacts."""
    return settings.home / "dagster" / "dbt"


def environment(settings: Settings, target_path: Path) -> dict[str, str]:
    """Return the environment of a dbt process: this warehouse, its own folder, structured output, no calls home."""
    return settings.environment() | {
        "DBT_PROJECT_DIR_DIR": str(PROJECT_DIR),
        "DBT_PROFILES_DIR": str(PROJECT_DIR),
        "DBT_TARGET_PATH": str(target_path),
        "DBT_LOG_PATH": str(target_path),
        "DBT_LOG_FORMAT": "json",
        "DBT_LOG_FORMAT_FILE": "debug",
        "DBT_LOG_LEVEL_FILE": os.environ.get("DBT_LOG_LEVEL_FILE", "info"),  # statements are a sixth of dbt's time
        "DBT_USE_COLORS": "false",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def prepare(settings: Settings) -> Path:
    """Make sure that the manifest is that of the project as it is now; return its path.

    Takes some 20 ms if nothing changed. Processes that start together wait for the one that parses.

    Raises:
        GranaryError: dbt cannot parse the project; its own words are in the message.
    """
    home = folder(settings)
    home.mkdir(parents=True, exist_ok=True)
    manifest, stamp = home / MANIFEST, home / STAMP
    with locked(home / "manifest.lock", "parsing the dbt project", PARSE_SECONDS):
        now = fingerprint(settings)
        if is_of(settings, now):
            return manifest
        stamp.unlink(missing_ok=True)
        done = subprocess.run(
            [*DBT, "parse", "--quiet", "--vars", json.dumps(INCREMENTAL_VARS)],
            cwd=PROJECT_DIR,
            env=environment(settings, home),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            words = _words(done.stdout) or _words(done.stderr)
            todo = "run `make setup`, which brings its packages" if "dbt deps" in words else "fix the file it names"
            raise GranaryError(f"dbt cannot parse the project: {words}", str(home / "dbt.log"), todo)
        stamp.write_text(now)
    return manifest


def is_of(settings: Settings, project: str) -> bool:
    """Return whether the manifest is that of the project with this fingerprint."""
    manifest, stamp = folder(settings) / MANIFEST, folder(settings) / STAMP
    return manifest.exists() and stamp.exists() and stamp.read_text() == project


def fingerprint(settings: Settings) -> str:
    """Return a digest that changes when a file of the project, the warehouse, the target or dbt changes."""
    digest = hashlib.sha256()
    target = os.environ.get("DBT_TARGET", "")
    for part in (settings.database, target, version("dbt-core"), json.dumps(INCREMENTAL_VARS)):
        digest.update(f"{part}\n".encode())
    for path in sorted(_inputs()):
        status = path.stat()
        digest.update(f"{path.relative_to(PROJECT_DIR)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Mapping[str, Any]:
    return with_checks(json.loads(path.read_bytes()))


def with_checks(manifest: dict[str, Any]) -> dict[str, Any]:
    """Add to each test what Dagster needs to make a check of it: one table that it is about, and what it says.

    A test that reads several tables is about the last of them, the one with the most tables upstream (by name if they
    are equal): when it is there, so are the others. Generic tests stay where dbt attached them. A node that somebody
    named in `meta.dagster.ref` counts only if the test reads it: dagster-dbt finds no check of another one.
    """
    parents: Mapping[str, list[str]] = manifest["parent_map"]

    @cache
    def upstream(node: str) -> frozenset[str]:
        return frozenset(parents.get(node, ())).union(*(upstream(parent) for parent in parents.get(node, ())))

    for node in manifest["nodes"].values():
        if node["resource_type"] == "test":
            read = node["depends_on"]["nodes"]
            named = [one for one in read if one.split(".")[-1] == chosen_node(node)]
            if not node.get("attached_node") and read:
                node["attached_node"] = max(named or read, key=lambda one: (len(upstream(one)), one))
            node["meta"] = {"description": meaning(node)}
            node.get("config", {}).pop("meta", None)
    return manifest


def chosen_node(test: Mapping[str, Any]) -> str | None:
    """Return the name in a test's `meta.dagster.ref`."""
    name: str | None = meta(test).get("dagster", {}).get("ref", {}).get("name")
    return name


def meaning(test: Mapping[str, Any]) -> str:
    """Return what a test says: its description, else the generic test with its arguments."""
    generic = test.get("test_metadata") or {}
    arguments = {name: value for name, value in generic.get("kwargs", {}).items() if name != "model"}
    words = ", ".join(f"{name}: {value}" for name, value in arguments.items())
    return str(test.get("description") or f"{generic.get('name', test['name'])} {words}").strip()


def load(path: Path) -> Mapping[str, Any]:
    """Return the manifest; the same object as long as the file does not change."""
    return _read(path, path.stat().st_mtime_ns)


def _inputs() -> Iterator[Path]:
    yield from (PROJECT_DIR / name for name in FILES if (PROJECT_DIR / name).exists())
    packages = (PROJECT_DIR / "dbt_packages").glob("*")  # links to folders, which rglob does not follow
    for folder in (*(PROJECT_DIR / name for name in FOLDERS), *packages):
        yield from (path for path in folder.rglob("*") if path.suffix != ".pyc" and path.is_file())


def _words(output: str) -> str:
    """Return what dbt said went wrong, from its structured log lines or from plain text."""
    words = []
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            words.append(line)
        else:
            if event["info"]["level"] == "error":
                words.append(event["info"]["msg"])
    return " ".join(" ".join(words).split())[:600]
