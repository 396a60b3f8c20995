"""git, as far as a project is begun by it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = shutil.which("git")
AUTHOR = ("-c", "user.name=granary", "-c", "user.email=granary@localhost")
"""Who commits where git knows nobody."""


def git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it prints.

    Raises:
        GranaryError: it is not installed, or it fails.
    """
    if PROGRAM is None:
        raise GranaryError("git is not installed", todo="install it and run this again")
    done = subprocess.run([PROGRAM, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise GranaryError(f"git {words[0]} failed: {said}", str(folder), "nothing was changed")
    return done.stdout


def commit(folder: Path, message: str) -> None:
    """Commit everything in a folder.

    Raises:
        GranaryError: git fails.
    """
    git(folder, "add", "--all")
    try:
        author: tuple[str, ...] = () if git(folder, "config", "user.email") else AUTHOR
    except GranaryError:
        author = AUTHOR
    git(folder, *author, "commit", "--quiet", "--message", message)
