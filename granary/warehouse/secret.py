"""Secrets that somebody keeps elsewhere: in a variable, in a file of theirs, or behind a command such as a vault's."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from granary.warehouse.errors import GranaryError, UsageError

COMMAND_SECONDS = 60


def read(source: str) -> str:
    """Return the first line of `env:NAME`, `file:PATH` or `command:PROGRAM ARGUMENTS`; no message shows it.

    Raises:
        UsageError: the source is none of these.
        GranaryError: there is nothing, others may read the file, or the command failed.
    """
    kind, _, name = source.partition(":")
    if kind not in {"env", "file", "command"} or not name:
        raise UsageError("this is no source of a secret", todo="write env:NAME, file:PATH or command:PROGRAM …")
    text = {"env": lambda one: os.environ.get(one, ""), "file": _of_file, "command": _of_command}[kind](name)
    found = text.split("\n", 1)[0].rstrip("\r")
    if not found:
        raise GranaryError(
            "there is no secret", f"{kind}:{name.split(maxsplit=1)[0]}", "put it there, in the first line"
        )
    return found


def _of_file(name: str) -> str:
    path = Path(name).expanduser()
    try:
        if path.stat().st_mode & 0o077:
            raise GranaryError("others may read the file of a secret", str(path), f"run `chmod 600 {path}`")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise GranaryError(
            f"a secret cannot be read: {getattr(error, 'strerror', None) or 'no text'}", str(path), "name its file"
        ) from None


def _of_command(line: str) -> str:
    try:
        words = shlex.split(line)
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        code = getattr(error, "returncode", None)
        what = f"exit code {code}" if code is not None else type(error).__name__
        raise GranaryError(
            f"the command for a secret failed: {what}", line.split(maxsplit=1)[0], "run it yourself to see why"
        ) from None
