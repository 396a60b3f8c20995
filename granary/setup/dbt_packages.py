"""Puts the dbt packages of `packages.yml` into `dbt_packages/`: links to local ones, others from the hub or `offline/`.

The engine's own package is such a local one. A project that has the engine from a wheel declares it as
`.venv/granary/dbt_package`, where `.venv/granary` is a link to the engine that this module makes. The stand-ins are in
`offline/` beside this file.

`dbt deps` empties `dbt_packages/` before it asks the hub, and without a hub it retries for a long time and
leaves nothing. So it runs in a scratch project here, and only what it has finished replaces the folder. dbt
itself compares nothing but the *number* of folders with that of `packages.yml`; which version is there is for
this module to know.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from granary.setup.steps import SetupError, Steps, empty_log, exclusive, home_folder, remove

OFFLINE = Path(__file__).parent / "offline"
"""Stand-ins for what the hub has."""
DECLARATIONS = ("packages.yml", "package-lock.yml")
ENGINE, ENGINE_LINK = Path(__file__).resolve().parents[1], Path(".venv", "granary")
DOWNLOAD_SECONDS = 60.0

# Asks the hub for its page about one package, with dbt's own address for it; three seconds to connect, six for all.
# The alarm is set after the imports, which take longer than the hub where the machine is busy.
QUESTION = """
import signal
import sys
import requests
from dbt.clients import registry
signal.alarm(6)
address = f"{registry.DEFAULT_REGISTRY_BASE_URL}api/v1/{sys.argv[1]}.json"
requests.get(address, timeout=3).raise_for_status()
"""

SCRATCH_PROJECT = "name: scratch\nversion: '1.0.0'\nprofile: none\n"


def _entries(path: Path) -> list[str]:
    return re.split(r"(?m)^\s*- ", path.read_text())[1:]


def local_packages(root: Path) -> dict[str, Path]:
    """The packages that the project declares as folders of its own: name -> the folder, relative to the project.

    Raises:
        SetupError: such a folder has no dbt project in it.
    """
    packages: dict[str, Path] = {}
    path = root / "packages.yml"
    for entry in _entries(path) if path.exists() else ():
        if local := re.search(r"(?m)^\s*local:\s*[\"']?([^\s\"']+)", entry):
            try:
                text = (root / local[1] / "dbt_project.yml").read_text()
            except OSError:
                text = ""
            name = re.search(r"(?m)^name:\s*[\"']?(\w+)", text)
            if not name:
                raise SetupError(f"packages.yml names the folder {local[1]}, which has no dbt project: correct it")
            packages[name[1]] = Path(local[1])
    return packages


def link_engine(root: Path) -> None:
    """Make `.venv/granary` a link to the engine, where packages.yml declares a folder below it."""
    path = root / "packages.yml"
    if not path.exists() or f"{ENGINE_LINK}/" not in path.read_text():
        return
    link = root / ENGINE_LINK
    if not (link.is_symlink() and link.resolve() == ENGINE):
        remove(link)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(ENGINE)


def link_local_packages(root: Path, folder: Path) -> list[str]:
    """Put a link to each local package into what is going to be `dbt_packages/`; return their names."""
    packages = local_packages(root)
    folder.mkdir(parents=True, exist_ok=True)
    for name, place in packages.items():
        remove(folder / name)
        # Relative, so that the project's folder may move.
        (folder / name).symlink_to(Path("..") / place)
    return list(packages)


def declared(root: Path) -> dict[str, str]:
    """The packages that the project declares: folder name -> version (empty where none is written)."""
    packages: dict[str, str] = dict.fromkeys(local_packages(root), "")
    for file in reversed(DECLARATIONS):
        path = root / file
        if not path.exists():
            continue
        for entry in _entries(path):
            name = re.search(r"(?m)^\s*(?:name|package):\s*[\"']?(?:[\w-]+/)?(\w+)", entry)
            version = re.search(r"(?m)^\s*version:\s*[\"']?([\w.]+)", entry)
            if name:
                packages.setdefault(name[1], version[1] if version else "")
    return packages


def _fingerprint(root: Path) -> str:
    digest = hashlib.sha256()
    for file in DECLARATIONS:
        path = root / file
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def _complete(folder: Path, packages: Iterable[str]) -> bool:
    return all((folder / name / "dbt_project.yml").is_file() for name in packages)


def _stamp(root: Path) -> Path:
    return root / "dbt_packages" / ".granary.json"


def ready(root: Path) -> bool:
    """Whether every declared package is installed, in the version that is declared.

    A folder without our stamp was filled by `dbt deps` from the shell; it is taken as it is, and stamped.
    """
    if not (root / "packages.yml").exists():
        return True
    try:
        if not _complete(root / "dbt_packages", declared(root)):
            return False
        return bool(json.loads(_stamp(root).read_text())["declared"] == _fingerprint(root))
    except FileNotFoundError:
        with suppress(OSError):
            _write_stamp(root)
        return True
    except (SetupError, ValueError, KeyError, TypeError):
        return False


def _write_stamp(root: Path) -> None:
    _stamp(root).write_text(json.dumps({"declared": _fingerprint(root)}))


def install(steps: Steps, python: Path) -> str:
    """Fill `dbt_packages/` anew and say in a few words what is in it now.

    Raises:
        SetupError: the hub cannot be reached and a package has no stand-in, or a local package is not there.
    """
    root = steps.root
    link_engine(root)
    local = local_packages(root)
    packages = {name: version for name, version in declared(root).items() if name not in local}
    scratch = root / ".venv" / "dbt_packages"
    remove(scratch)
    scratch.mkdir(parents=True)
    named = ", ".join(f"{name} {version}".strip() for name, version in packages.items())
    if not packages:
        note = "the project's own"
    elif _download(steps, python, scratch):
        note = f"{named} from the hub"
    else:
        missing = [name for name in packages if not _complete(OFFLINE, [name])]
        if missing:
            raise SetupError(
                f"the dbt package hub cannot be reached and offline/ has no stand-in for "
                f"{', '.join(missing)}: give this machine access to the hub, or run `dbt deps` elsewhere and "
                f"copy its dbt_packages/ to {root}"
            )
        (scratch / "dbt_packages").mkdir()
        for name in packages:
            # A link, as dbt makes for local packages: a stand-in that changes is never stale.
            (scratch / "dbt_packages" / name).symlink_to(os.path.relpath(OFFLINE / name, root / "dbt_packages"))
        note = f"hub not reachable, so {named} is the stand-in in offline/"
    link_local_packages(root, scratch / "dbt_packages")
    remove(root / "dbt_packages")
    shutil.move(scratch / "dbt_packages", root / "dbt_packages")
    remove(scratch)
    _write_stamp(root)
    return note


def _download(steps: Steps, python: Path, scratch: Path) -> bool:
    """Run `dbt deps` in the scratch project; whether all packages are there now."""
    page = re.search(r"(?m)^\s*-?\s*package:\s*[\"']?([\w-]+/\w+)", (steps.root / "packages.yml").read_text())
    if page and not steps.run([python, "-c", QUESTION, page[1]], seconds=DOWNLOAD_SECONDS):
        return False
    (scratch / "dbt_project.yml").write_text(SCRATCH_PROJECT)
    for file in DECLARATIONS:
        if (steps.root / file).exists():
            shutil.copy(steps.root / file, scratch / file)
    for place in {place.parts[0] for place in local_packages(steps.root).values()}:
        (scratch / place).symlink_to(steps.root / place)
    dbt = python.with_name("dbt")
    done = steps.run([dbt, "--no-use-colors", "deps"], seconds=DOWNLOAD_SECONDS, folder=scratch)
    if done and _complete(scratch / "dbt_packages", declared(steps.root)):
        return True
    remove(scratch / "dbt_packages")
    return False


def main(root: Path) -> int:
    """Fill `dbt_packages/` of the project in `root` if need be; 0, or 1 after a sentence on stderr."""
    try:
        with exclusive(root) as lock:
            if not ready(root):
                steps = Steps(root=root, log=empty_log(home_folder(root)), lock=lock)
                with steps.step("dbt packages") as step:
                    step.note = install(steps, Path(sys.executable))
    except SetupError as error:
        print(f"Set-up stopped: {error}.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Set-up stopped: {error.strerror or error}: {error.filename or root}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
