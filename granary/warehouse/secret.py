"""Secrets that somebody keeps elsewhere: in a variable, in a file of theirs, or behind a command such as a vault's."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from granary.warehouse.errors import GranaryError, UsageError

COMMAND_SECONDS = 60
LARGEST = 65_536
"""Bytes that a file or a command may give."""


def read(source: str) -> str:
    """Return the first line of `env:NAME`, `file:PATH` or `command:PROGRAM ARGUMENTS`; no message shows it.

    Raises:
        UsageError: the source is none of these.
        GranaryError: there is nothing, others may read the file, or the command failed.
    """
    kind, _, name = source.partition(":")
    if kind not in {"env", "file", "command"} or not name:
        raise UsageError("this is no source of a secret", todo="write env:NAME, file:PATH or command:PROGRAM …")
    if kind == "env":
        text = _there(os.environ.get(name, ""), source)
    else:
        text = of_file(name) if kind == "file" else of_command(name)
    return _there(text.split("\n", 1)[0].rstrip("\r"), source)


def of_file(name: str, *, private: bool = True) -> str:
    """Return what is in a file, without the end of its last line: a password, or a key of several lines.

    Args:
        name: its path.
        private: whether only its owner may read it; what a container mounts, others may.

    Raises:
        GranaryError: there is nothing, it cannot be read, or others may read it.
    """
    path = Path(name).expanduser()
    try:
        if private and path.stat().st_mode & 0o077:
            raise GranaryError("others may read the file of a secret", str(path), f"run `chmod 600 {path}`")
        with path.open("rb") as file:
            return _there(file.read(LARGEST).decode(), f"file:{name}")
    except (OSError, UnicodeDecodeError) as error:
        raise GranaryError(
            f"a secret cannot be read: {getattr(error, 'strerror', None) or 'no text'}", str(path), "name its file"
        ) from None


def of_command(line: str) -> str:
    """Return what a program prints, without the end of its last line; it is run without a shell.

    Raises:
        GranaryError: it prints nothing, or fails.
    """
    try:
        words = shlex.split(line)
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS
        )
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        code = getattr(error, "returncode", None)
        what = f"exit code {code}" if code is not None else type(error).__name__
        raise GranaryError(
            f"the command for a secret failed: {what}", line.split(maxsplit=1)[0], "run it yourself to see why"
        ) from None
    return _there(done.stdout[:LARGEST], f"command:{words[0]}")


def _there(text: str, where: str) -> str:
    found = text.rstrip("\r\n")
    if not found:
        raise GranaryError("there is no secret", where, "put it there")
    return found
