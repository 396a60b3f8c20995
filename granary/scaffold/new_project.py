"""A new project: the files of `template/` in a folder of their own, all of them or none, and one git commit."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import date
from importlib.metadata import distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING

from granary.scaffold.git import PROGRAM, commit, git
from granary.scaffold.keywords import KEYWORDS
from granary.scaffold.names import TAKEN
from granary.scaffold.template_changes import RECORD, Record
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.migrate import engine_version
from granary.warehouse.project import DISTRIBUTION, ZONE_ADVICE, is_time_zone

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATE = Path(__file__).parent / "template"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 40
OURS = frozenset(
    {"granary", "dbt", "dbt_utils", "dbt_granary", "dagster", "dashboards", "deliveries", "ingestion", "orchestration"}
)
"""Names of the engine, of what it stands on, and of a project's own folders."""
EXTRAS = "dashboard,databases,files,project,streams"
"""What a project installs of the engine besides the engine itself."""
CALENDAR_YEARS = 5


@dataclass(frozen=True)
class NewProject:
    """What a person decides about a project before it is there."""

    folder: Path
    name: str
    time_zone: str
    first_date: date
    engine: str
    """The requirement that installs the engine, as pip reads it."""

    def words(self) -> Mapping[str, str]:
        """Return what stands for what in the template."""
        return {
            "__PROJECT__": self.name,
            "__ENGINE__": self.engine,
            "__TIME_ZONE__": self.time_zone,
            "__FIRST_DATE__": self.first_date.isoformat(),
            "__CALENDAR_START__": f"{self.first_date.year}-01-01",
            "__CALENDAR_END__": f"{self.first_date.year + CALENDAR_YEARS}-12-31",
        }

    def answers(self) -> dict[str, str]:
        """Return what is remembered of it in the project."""
        return {"name": self.name, "time_zone": self.time_zone, "first_date": self.first_date.isoformat()}


def plan(folder: Path, time_zone: str, first_date: date, engine: Path | None) -> NewProject:
    """Decide on a project in a folder, whose name becomes its own.

    Args:
        folder: where it is to be; nothing, or an empty folder, is there.
        time_zone: the zone in which a business date begins and ends.
        first_date: the first business date of any source.
        engine: a wheel or a checkout to install the engine from; None for where this one came from.

    Raises:
        GranaryError: the folder is not empty, or there is no such engine.
        UsageError: the folder's name cannot be a project's, or there is no such time zone.
    """
    folder = folder.expanduser().absolute()
    name = check_name(folder.name)
    if not is_time_zone(time_zone):
        raise UsageError(f"{time_zone[:60]!r} is not a time zone", todo=ZONE_ADVICE)
    if folder.is_symlink() or folder.exists():
        if not folder.is_dir():
            raise GranaryError("this is not a folder", str(folder), "name a new one")
        if any(folder.iterdir()):
            raise GranaryError("the folder is not empty", str(folder), "name a new one, or an empty one")
    return NewProject(folder, name, time_zone, first_date, requirement(engine))


def check_name(name: str) -> str:
    """Return the name of a project if it may be one: dbt, Python and SQL have to take it.

    Raises:
        UsageError: it is not a lower snake case, too long, or means something else already.
    """
    if NAME.fullmatch(name) is None or len(name) > LONGEST:
        todo = f"use lower case letters, digits and single underscores, at most {LONGEST} characters"
        raise UsageError(f"{name[:60]!r} cannot be the name of a project", todo=todo)
    if name in KEYWORDS or name in TAKEN or name in OURS:
        raise UsageError(f"{name!r} means something else already", todo="choose another name for the project")
    return name


def requirement(engine: Path | None) -> str:
    """Return the requirement that installs the engine: this release of it, or the place that it came from.

    Raises:
        GranaryError: there is no such place.
    """
    if engine is not None:
        place = engine.expanduser().absolute()
        if not (place.suffix == ".whl" and place.is_file()) and not (place / "pyproject.toml").is_file():
            raise GranaryError("there is no such engine", str(place), f"name a wheel of {DISTRIBUTION} or its checkout")
        return f"{DISTRIBUTION}[{EXTRAS}] @ {place.as_uri()}"
    for installed in distributions(name=DISTRIBUTION):  # in a checkout, the one that setuptools left there comes first
        if origin := installed.read_text("direct_url.json"):  # not from an index: PEP 610
            return f"{DISTRIBUTION}[{EXTRAS}] @ {json.loads(origin)['url']}"
    return f"{DISTRIBUTION}[{EXTRAS}]=={distribution(DISTRIBUTION).version}"


def remembered(folder: Path, record: Record) -> NewProject:
    """Return the project in a folder as it was decided on, with the engine that is installed now.

    Raises:
        GranaryError: its record lacks an answer.
    """
    answers = record.answers
    try:
        first = date.fromisoformat(answers["first_date"])
        return NewProject(folder, answers["name"], answers["time_zone"], first, requirement(None))
    except (KeyError, ValueError, TypeError) as error:
        todo = f"take it from the project's history: git checkout -- {RECORD}"
        raise GranaryError(f"the project's record lacks {error}", str(folder / RECORD), todo) from None


def files(project: NewProject) -> dict[str, tuple[bytes, int]]:
    """Return the files of a project: path in its folder -> content and mode."""
    texts = template(project)
    texts[RECORD] = Record(engine_version(), project.answers(), dict(texts)).text()
    return {path: (text.encode(), 0o755 if text.startswith("#!") else 0o644) for path, text in texts.items()}


def template(project: NewProject) -> dict[str, str]:
    """Return the files of the template as they are for a project: path in its folder -> text."""
    found = {}
    for path in sorted(TEMPLATE.rglob("*")):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        for word, meant in project.words().items():
            text = text.replace(word, meant)
        place = re.sub(r"(^|/)dot-", r"\1.", str(path.relative_to(TEMPLATE)))
        found[place] = text
    return found


def make(project: NewProject) -> bool:
    """Write a project and commit it; return whether there is a commit (there is none without git).

    Raises:
        GranaryError: it cannot be written, or git refuses; nothing is left of it then.
    """
    folder = project.folder
    missing = [one for one in (folder.parent, *folder.parent.parents) if not one.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
            fresh = Path(made) / folder.name
            for name, (content, mode) in files(project).items():
                path = fresh / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(mode)
            if PROGRAM:
                git(fresh, "init", "--quiet")
                commit(fresh, f"Begin {project.name}, as `granary init` writes it")
            # An empty folder that is there stays the same one: it may be the caller's own.
            _move_into(fresh, folder) if folder.exists() else fresh.rename(folder)
    except OSError as error:
        _remove(missing)
        where = str(error.filename or folder)
        raise GranaryError(f"the project cannot be written: {error.strerror}", where, "nothing was changed") from None
    except BaseException:
        _remove(missing)
        raise
    return PROGRAM is not None


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _move_into(fresh: Path, folder: Path) -> None:
    moved = []
    try:
        for path in sorted(fresh.iterdir()):
            moved.append(path.rename(folder / path.name))
    except OSError:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def clone_sample(folder: Path) -> None:
    """Clone the checkout that this engine runs from, with the sample; its project keeps the sample's name.

    Raises:
        GranaryError: the engine was installed from a wheel, which has no sample, or the folder is not empty.
    """
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists() or not (checkout / "demo").is_dir():
        todo = "clone Granary's repository, or begin without it: --empty"
        raise GranaryError("the sample is not part of an installed engine", str(checkout), todo)
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GranaryError("the folder is not empty", str(folder), "name a new one, or an empty one")
    git(checkout, "clone", "--quiet", str(checkout), str(folder))
