"""Every command and every output in the documents, run on the whole year."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.main import get_command

from granary.cli.main import app
from granary.warehouse.project import PROJECT
from tests.python.support import metrics_page
from tests.python.support.documents import BLOCK, Example, documents, examples, heading

if TYPE_CHECKING:
    from tests.python.project.main_job.conftest import Year

EXAMPLES = [example for path in documents() for example in examples(path)]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_example(year: Year, example: Example) -> None:
    printed = example.run(year.settings)
    assert example.agrees(printed), f"the document shows\n{example.shown}\nand it printed\n{printed}"


def test_the_guide_answers_thirty_questions() -> None:
    pages = sorted((PROJECT / "docs" / "guide").glob("*.md"))
    asked = {heading(example) for path in pages for example in examples(path) if example.kind == "sql"}
    assert sorted(int(name.partition(".")[0]) for name in asked) == list(range(1, 31))


def test_the_guide_asks_every_mart() -> None:
    table = (PROJECT / "docs" / "data-dictionary.md").read_text().partition("## One row per")[2].partition("##")[0]
    exposures = yaml.safe_load((PROJECT / "models" / "marts" / "exposures.yml").read_text())["exposures"]
    (told,) = (one["depends_on"] for one in exposures if one["name"] == "analysts_guide")
    pages = "".join(path.read_text() for path in (PROJECT / "docs" / "guide").glob("*.md"))
    asked = set(re.findall(r"\bmarts\.(\w+)", pages))
    assert asked == set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    assert asked == {reference.split("'")[1] for reference in told}


def test_the_guide_is_in_the_style_of_the_models(tmp_path: Path) -> None:
    """`make lint` cannot see SQL in pages. Unreserved words such as lines and days may be names of columns there."""
    pages = [PROJECT / "docs" / "quirks.md", *(PROJECT / "docs" / "guide").glob("*.md")]
    for number, example in enumerate(one for path in pages for one in examples(path) if one.kind == "sql"):
        words = "_".join(re.findall(r"\w+", str(example)))[:80]
        (tmp_path / f"{number}_{words}.sql").write_text(example.command.rstrip().rstrip(";") + "\n")
    # In a process of its own: sqlfluff puts its stand-ins for dbt's packages in the place of Python's.
    command = ["sqlfluff", "lint", "--config", ".sqlfluff", "--exclude-rules", "RF04,ST06,ST07", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(BLOCK, "", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", path.read_text()):
        page = path.parent / target if target else path
        assert page.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(page), f"{path.name} links to {target}#{anchor}"


def _commands() -> list[str]:
    """Return the commands in the documents' `sh` blocks, without their comments."""
    found = []
    for path in documents():
        for block in BLOCK.finditer(path.read_text()):
            if block["kind"] == "sh":
                found += [line.split("#")[0].strip() for line in block["body"].splitlines()]
    return sorted({command for command in found if command})


@pytest.mark.parametrize("command", _commands())
def test_shown_command_exists(command: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        assert subprocess.run(["make", "-n", *arguments], cwd=PROJECT, capture_output=True, check=False).returncode == 0
    elif program.endswith("granary"):
        tool = get_command(app)
        while arguments and hasattr(tool, "commands"):
            tool = tool.commands[arguments.pop(0)]
        tool.make_context("granary", arguments, resilient_parsing=False)
    else:
        assert program in {"dbt", "mf"}
        assert (Path(sys.executable).parent / program).exists()


def test_the_page_of_metrics_says_what_is_defined(year: Year) -> None:
    assert metrics_page.BETWEEN.findall(metrics_page.PAGE.read_text()) == [metrics_page.tables(year.settings)]


def test_python_examples_are_valid() -> None:
    for path in documents():
        for block in BLOCK.finditer(path.read_text()):
            if block["kind"] == "python":
                exec(compile(ast.parse(block["body"]), str(path), "exec"), {})
