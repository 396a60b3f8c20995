"""The steps from a bare machine to a working environment; `granary/setup` starts them.

Each step can be interrupted at any instant. A stamp inside `.venv/` is there only while all packages of the lock are,
so an environment without one is a half-finished one and is made anew. With a valid stamp nothing is done at all.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from granary.setup import dbt_packages
from granary.setup.steps import SetupError, Steps, empty_log, exclusive, home_folder, remove

DEMO_GB = 10.0  # measured: 1 GB for the environment, 7.5 GB for the warehouse of the demo while it is built
UPDATE_GB = 2.0  # a warehouse that has filled the disk must not stop a repair of the environment

LOCKS = ("requirements.lock", "requirements-dev.lock")
"""What a warehouse runs on, which a deployment installs alone; and the tests, linters and the sample on top of it."""

EXAMPLES = """examples:
  python3 granary/setup            set up, or do nothing if nothing is to be done
  make PYTHON=python3.12 setup        the same with an interpreter of your choice
"""


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from: its folder, `3.x` of its Python, SHA-256 of its locks and of pyproject.

    `project` is empty while the packages are there and the project itself is not yet.
    """

    folder: str
    python: str
    lock: str
    project: str

    @classmethod
    def wanted(cls, root: Path) -> Stamp:
        """The stamp of an environment made now, by this interpreter."""
        texts = b"".join((root / name).read_bytes() for name in LOCKS)
        return cls(
            folder=str(root / ".venv"),
            python=".".join(platform.python_version_tuple()[:2]),
            lock=hashlib.sha256(texts).hexdigest(),
            project=hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest(),
        )

    @classmethod
    def read(cls, root: Path) -> Stamp | None:
        """The stamp of the environment in `root`, or None if it is unfinished, broken or not ours."""
        try:
            stamp = cls(**json.loads(_stamp_file(root).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return stamp if _python(root).exists() else None


def _stamp_file(root: Path) -> Path:
    return root / ".venv" / "granary.json"


def _python(root: Path) -> Path:
    return root / ".venv" / "bin" / "python"


def plan(root: Path, *, this_python: bool) -> tuple[Stamp, Stamp | None]:
    """The stamp that the environment should have, and the one of the environment that can be kept, if any.

    An environment is kept when it was finished in this very folder (its scripts hold absolute paths). Another
    interpreter is reason to make it anew only if somebody chose it (`this_python`): the embedded server runs
    from this folder, so its files must not go because a shell finds another `python3`.
    """
    wanted, kept = Stamp.wanted(root), Stamp.read(root)
    if kept is None or kept.folder != wanted.folder:
        return wanted, None
    if kept.python == wanted.python:
        return wanted, kept
    return (wanted, None) if this_python else (replace(wanted, python=kept.python), kept)


def check_interpreter() -> None:
    """Fail with a sentence if this Python cannot make virtual environments (Debian splits the module off)."""
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        version = ".".join(platform.python_version_tuple()[:2])
        raise SetupError(
            f"{sys.executable} cannot make virtual environments because its venv module is not installed: "
            f"install it (Debian, Ubuntu: apt-get install python{version}-venv) and run this again"
        )


def check_disk(root: Path, *, fresh: bool) -> float:
    """Free space at the project's folder in GB; fail with a sentence if what is to come would not fit.

    With `fresh` that is the environment and the demo's warehouse, otherwise only the environment's new packages.
    """
    setting = os.environ.get("GRANARY_MIN_DISK_GB", "")
    try:
        needed = float(setting) if setting else DEMO_GB if fresh else UPDATE_GB
    except ValueError:
        raise SetupError(f"GRANARY_MIN_DISK_GB is {setting!r}: set it to gigabytes, such as 8") from None
    free = shutil.disk_usage(root).free / 1e9
    if free < needed:
        purpose = "the environment and the demo's warehouse need" if fresh else "the environment needs"
        raise SetupError(
            f"{free:.1f} GB are free at {root}, and {purpose} {needed:g} GB: make room, or set "
            f"GRANARY_MIN_DISK_GB to accept less"
        )
    return free


def base_interpreter() -> str:
    """The interpreter to make the environment with: never one that lives in an environment (which may go)."""
    inside = sys.prefix != sys.base_prefix
    return str(getattr(sys, "_base_executable", "") or sys.executable) if inside else sys.executable


def make_environment(steps: Steps, wanted: Stamp, kept: Stamp | None) -> None:
    """Make `.venv/` anew, or bring a finished one up to the locks and the project's own settings."""
    root, python = steps.root, _python(steps.root)
    if kept is not None and not steps.run([python, "-c", "import pip"], seconds=60):
        wanted, kept = Stamp.wanted(root), None
    install = [str(python), "-I", "-m", "pip", "install"]
    if kept is None:
        remove(_stamp_file(root))
        stale = (root / ".venv").exists() or (root / ".venv").is_symlink()
        with steps.step("virtual environment .venv") as step:
            if stale:
                step.note = "unfinished, moved or of another Python, so made anew"
            remove(root / ".venv")
            command = [base_interpreter(), "-m", "venv", str(root / ".venv")]
            _must(steps, command, "making the virtual environment failed")
    if kept is None or kept.lock != wanted.lock:
        pinned = {pin for name in LOCKS for pin in re.findall(r"(?m)^([\w.-]+).*==", (root / name).read_text())}
        named = " and ".join(LOCKS)
        remove(_stamp_file(root))
        with steps.step(f"{len(pinned)} packages from {named}"):
            options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--progress-bar=off"]
            command = [*install, *options, *(word for name in LOCKS for word in ("-r", name))]
            _must(steps, command, f"installing the packages of {named} failed")
    _write_stamp(root, replace(wanted, project=""))
    with steps.step("the granary command"):
        options = ["--no-deps", "--no-build-isolation", "--no-index"]
        command = [*install, *options, "-e", "."]
        _must(steps, command, "installing the project itself failed")
    _write_stamp(root, wanted)


def _write_stamp(root: Path, stamp: Stamp) -> None:
    """Put the stamp into the environment; whoever reads it finds a whole one or none."""
    fresh = _stamp_file(root).with_suffix(".new")
    fresh.write_text(json.dumps(asdict(stamp)))
    fresh.replace(_stamp_file(root))


def _must(steps: Steps, command: Sequence[str | Path], failure: str) -> None:
    if not steps.run(command):
        reason = steps.last_error()
        raise SetupError(f"{failure}{f' ({reason})' if reason else ''}: see {steps.log}, then run this again")


def set_up(root: Path, *, this_python: bool) -> None:
    """Do what is to be done, one set-up at a time per folder.

    Raises:
        SetupError: with the sentence to show.
        OSError: a folder cannot be written, or the disk is full.
    """
    with exclusive(root) as lock:
        wanted, kept = plan(root, this_python=this_python)
        home = home_folder(root)
        steps = Steps(root=root, log=empty_log(home), lock=lock)
        if kept != wanted:
            print(f"Setting up Granary in {root}", flush=True)
            check_interpreter()
            with steps.step(f"Python {platform.python_version()}") as step:
                free = check_disk(root, fresh=kept is None and not (home / "data").exists())
                step.note = f"{free:.0f} GB of disk free"
            make_environment(steps, wanted, kept)
        if not dbt_packages.ready(root):
            with steps.step("dbt packages") as step:
                step.note = dbt_packages.install(steps, _python(root))
        print(f"The environment is ready after {time.monotonic() - steps.began:.0f} s.", flush=True)


def _stop(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Set up the environment of the project that this file is in; 0, or 1 after a sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="granary/setup",
        description="Set up everything that Granary runs on; quick when nothing is to be done.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--this-python",
        action="store_true",
        help="make the environment anew if it was made with another Python version",
    )
    options = parser.parse_args(arguments)
    root = Path(__file__).resolve().parents[2]
    try:
        wanted, kept = plan(root, this_python=options.this_python)
        if kept == wanted and dbt_packages.ready(root):
            return 0
        signal.signal(signal.SIGTERM, _stop)
        # A shell starts background jobs with SIGINT ignored; a set-up can be stopped there too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        set_up(root, this_python=options.this_python)
    except SetupError as error:
        print(f"Set-up stopped: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Set-up stopped: it was interrupted; the next run repairs what is half done.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Set-up stopped: {error.strerror or error}: {error.filename or root}.", file=sys.stderr)
        return 1
    return 0
