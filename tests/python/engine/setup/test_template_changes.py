"""The template's changes come to a project as a diff; what somebody edited there stays as it is."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from granary.scaffold import new_project, template_changes
from granary.scaffold.template_changes import RECORD, Record
from granary.warehouse.errors import GranaryError
from granary.warehouse.migrate import engine_version

if TYPE_CHECKING:
    from pathlib import Path

LINES = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
OLD = {
    "same.yml": "as it was\n",
    "unedited.yml": LINES,
    "edited.yml": LINES,
    "conflict.yml": LINES,
    "followed.yml": LINES,
    "deleted.yml": LINES,
    "dropped.yml": LINES,
    "dropped-edited.yml": LINES,
    "run": "#!/bin/sh\nexit 0\n",
}
CHANGED = LINES.replace("two", "2")
NEW = {
    "same.yml": "as it was\n",
    "unedited.yml": CHANGED,
    "edited.yml": CHANGED,
    "conflict.yml": CHANGED,
    "followed.yml": CHANGED,
    "deleted.yml": CHANGED,
    "run": "#!/bin/sh\nexit 1\n",
    "folder/added.yml": "new\n",
    "taken.yml": "the template's\n",
}
MINE = {
    "same.yml": "edited\n",
    "edited.yml": LINES.replace("six", "6"),
    "conflict.yml": LINES.replace("two", "zwei"),
    "followed.yml": CHANGED,
    "dropped-edited.yml": "edited\n",
    "taken.yml": "mine\n",
}
EDITED_DIFF = """\
--- a/edited.yml
+++ b/edited.yml
@@ -1,5 +1,5 @@
 one
-two
+2
 three
 four
 five
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project of the old template, in which somebody has worked."""
    for name, text in (OLD | MINE).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "deleted.yml").unlink()
    (tmp_path / RECORD).write_text(Record("0.0.9", {"name": "shop"}, OLD).text())
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "begin"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def found(project: Path) -> tuple[Record, list[template_changes.Change]]:
    record = template_changes.read(project)
    assert record
    return record, template_changes.changes(project, record, NEW)


def texts(project: Path) -> dict[str, str]:
    return {
        str(path.relative_to(project)): path.read_text()
        for path in project.rglob("*")
        if path.is_file() and ".git" not in path.parts and path.name != RECORD
    }


def test_each_file_is_compared_in_three_versions(project: Path) -> None:
    before = texts(project)
    _, changes = found(project)
    assert {change.path: change.state for change in changes} == {
        "conflict.yml": "conflict",
        "deleted.yml": "removed",
        "dropped.yml": "unedited",
        "edited.yml": "edited",
        "folder/added.yml": "unedited",
        "run": "unedited",
        "taken.yml": "conflict",
        "unedited.yml": "unedited",
    }
    diffs = {change.path: change.diff for change in changes}
    assert diffs["edited.yml"] == EDITED_DIFF
    assert diffs["folder/added.yml"] == "--- /dev/null\n+++ b/folder/added.yml\n@@ -0,0 +1 @@\n+new\n"
    assert "+<<<<<<< yours\n zwei\n" in diffs["conflict.yml"]
    assert f"+2\n+>>>>>>> template, engine {engine_version()}\n" in diffs["conflict.yml"]
    assert texts(project) == before


def test_what_is_unedited_is_written_and_the_rest_is_left(project: Path) -> None:
    record, changes = found(project)
    left = template_changes.apply(project, record, NEW, changes)
    assert [change.path for change in left] == ["conflict.yml", "edited.yml", "taken.yml"]
    written = {"unedited.yml": CHANGED, "run": NEW["run"], "folder/added.yml": "new\n"}
    after = {**OLD, **MINE, **written}
    del after["deleted.yml"], after["dropped.yml"]
    assert texts(project) == after
    assert (project / "run").stat().st_mode & 0o777 == 0o755
    record, changes = found(project)
    assert record.engine == engine_version()
    assert [change.path for change in changes] == ["conflict.yml", "edited.yml", "taken.yml"]


def test_who_takes_the_diff_over_has_followed(project: Path) -> None:
    record, changes = found(project)
    (diff,) = [change.diff for change in changes if change.path == "edited.yml"]
    subprocess.run(["git", "apply", "-"], cwd=project, input=diff, text=True, check=True)
    assert (project / "edited.yml").read_text() == LINES.replace("two", "2").replace("six", "6")
    _, changes = found(project)
    assert "edited.yml" not in {change.path for change in changes}
    template_changes.apply(project, record, NEW, changes)
    remembered = template_changes.read(project)
    assert remembered
    assert remembered.files["edited.yml"] == CHANGED
    assert remembered.files["conflict.yml"] == LINES


def test_applying_that_was_broken_off_is_done_by_applying_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, changes = found(project)
    write = template_changes._write

    def break_off(path: Path, text: str | None) -> None:
        if path.name == "unedited.yml":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(template_changes, "_write", break_off)
    with pytest.raises(KeyboardInterrupt):
        template_changes.apply(project, record, NEW, changes)
    assert (project / "folder/added.yml").exists()
    monkeypatch.setattr(template_changes, "_write", write)
    record, changes = found(project)
    assert "folder/added.yml" not in {change.path for change in changes}
    template_changes.apply(project, record, NEW, changes)
    assert (project / "unedited.yml").read_text() == CHANGED


def test_uncommitted_changes_are_named(project: Path) -> None:
    template_changes.refuse_uncommitted(project)
    (project / "same.yml").write_text("edited again\n")
    with pytest.raises(GranaryError, match=r"the project has uncommitted changes: same\.yml .*commit or stash"):
        template_changes.refuse_uncommitted(project)


def test_a_project_without_a_repository_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(GranaryError, match="this is no git repository"):
        template_changes.refuse_uncommitted(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (Record("9.1.0", {}, {}).text(), r"unknown or newer version: the project is of engine 9\.1\.0"),
        ('{"format": 2}', "unknown or newer version: the project's record is in another format"),
        ('{"format": 1, "engine"', "record of its template cannot be read"),
        ('{"format": 1, "pages": []}', "record of its template cannot be read"),
    ],
)
def test_a_record_that_is_not_understood_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(GranaryError, match=said):
        template_changes.read(tmp_path)


def test_a_record_without_an_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GranaryError, match="the project's record lacks 'first_date'"):
        new_project.remembered(tmp_path, Record("0.1.0", {"name": "shop"}, {}))


def test_a_new_project_remembers_what_it_was_made_of(tmp_path: Path) -> None:
    made = new_project.plan(tmp_path / "shop", "Europe/Berlin", date(2023, 2, 1), None)
    new_project.make(made)
    record = template_changes.read(made.folder)
    assert record
    assert new_project.remembered(made.folder, record) == made
    assert template_changes.changes(made.folder, record, new_project.template(made)) == []
    later = new_project.template(replace(made, engine="granary-elt==9"))
    assert [change.path for change in template_changes.changes(made.folder, record, later)] == ["requirements.txt"]
