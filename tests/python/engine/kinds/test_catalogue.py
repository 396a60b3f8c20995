"""`granary sources`: each kind of source is listed, has a page, and what it claims is tried by `make chaos`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pkgutil import walk_packages
from typing import TYPE_CHECKING

import pytest
from typer import Typer
from typer.testing import CliRunner

import granary.readers
from granary.cli.sources import register
from granary.kinds.catalogue import KINDS, answers, brief, kinds_of, markdown
from granary.sources.discovery import SOURCES
from granary.sources.guarantees import Guarantees
from granary.streams.kinds import KINDS as LOGS
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings
from tests.python.engine.chaos.kinds import KINDS as CHAOS

if TYPE_CHECKING:
    from pathlib import Path

PAGES = PROJECT / "docs" / "engine" / "sources"
NO_SOURCES = {"archive", "deliver", "quarantine replay", "restore", "spark"}
"""Kinds of `make chaos` that disrupt something else than the reading of a source."""
UNTRIED = {"Iceberg table", "Delta table"}
"""Kinds whose readers are killed by their own tests, and not by `make chaos`."""


def run(*words: str) -> str:
    app = Typer()
    register(app)
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_every_reader_is_listed() -> None:
    declared = set[Guarantees]()
    for module in walk_packages(granary.readers.__path__, "granary.readers."):
        if module.name.endswith("dlt_runner"):
            continue  # a program of its own
        for value in vars(import_module(module.name)).values():
            if isinstance(found := getattr(value, "guarantees", value), Guarantees) and found.kind != "table of a lake":
                declared.add(found)
    assert declared <= set(KINDS)
    assert len({one.kind for one in KINDS}) == len(KINDS)


def test_every_answer_begins_with_yes_no_or_in_part() -> None:
    assert {brief(answer) for one in KINDS for answer in answers(one)} <= {"yes", "no", "in part"}
    assert {brief(one.exactly_once) for one in KINDS} == {"yes"}


def test_what_is_claimed_is_tried() -> None:
    assert {proof for one in KINDS for proof in one.proofs} == set(CHAOS) - NO_SOURCES
    assert {one.kind for one in KINDS if not one.proofs} == UNTRIED


@pytest.mark.parametrize("one", KINDS, ids=lambda one: one.kind)
def test_a_kind_has_a_page_that_names_how_it_is_declared(one: Guarantees) -> None:
    page = (PAGES / f"{one.page}.md").read_text()
    assert one.declared.rpartition(", ")[2] in page


def test_the_index_of_the_pages_is_what_the_code_says() -> None:
    assert markdown() in (PAGES / "README.md").read_text()


def test_the_sources_of_the_project_stand_beside_their_kinds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRANARY_HOME", str(tmp_path))
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", "kafka://127.0.0.1:1")
    monkeypatch.setenv("GRANARY_EVENTS_WEBHOOK_SECRETS", "0123456789abcdef")
    kinds = {name: {one.kind for one in kinds_of(source, Settings.load())} for name, source in SOURCES.items()}
    assert {"Kafka", "webhooks"} <= kinds["events"]
    listed = {one["kind"]: one for one in json.loads(run("--json"))}
    assert set(listed) == {one.kind for one in KINDS}
    assert listed["Kafka"]["sources"] == ["events"]


def test_a_kind_is_shown_whole() -> None:
    shown = " ".join(run("kinesis").split())
    assert LOGS["kinesis"].guarantees.exactly_once in shown
    assert "granary guide sources/streams" in shown


def test_nothing_that_reads_a_source_imports_pandas() -> None:
    """An Arrow array that a module makes of a list looks for pandas, and imports it where it is: half a second."""
    code = "import sys, granary.kinds.catalogue; print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
