"""A connector while it runs: a process group of its own, its lines as they come, its words in a log without secrets."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from granary.sources.units import UnreachableError
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import home_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

GUARD = Path(__file__).with_name("guard.py")
BLOCK_BYTES = 1 << 20
LINE_BYTES = 64 << 20
"""The longest line that a connector may print."""
LOG_BYTES = 5_000_000
WAIT_SECONDS = 30.0
"""How long a connector that has closed its output may take to end."""
PASSED_ON = re.compile(
    r"PATH|LANG|LC_\w+|TZ|TMPDIR|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|(?i:https?|no|all)_proxy", re.A
)
"""What of our environment a connector gets: none of it is ours alone."""
SECRET = re.compile(
    r"(?i)(^key|(api|access|private|secret|account|client|service|auth|encryption|signing|shared)[_-]?key"
    r"|token|secret|password|passwd|passphrase|pwd|sig|signature|credential|auth|authorization)s?$"
)
"""Names of what is secret in a configuration; a key may also be that of a row."""
RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Timeout|Refused|Denied))\b")
SHORT, LONG = 4, 8


def environment(folder: str, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a connector, whose home is a folder that goes with it."""
    kept = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    return kept | {"HOME": folder, "PYTHONUNBUFFERED": "", "PYTHONIOENCODING": "utf-8"} | dict(more)


def secrets_in(config: object, named: Iterable[str] = ()) -> list[str]:
    """Return what must not be shown, the longest first: values of settings, and those whose names say so."""
    found = {value for value in named if len(value) >= SHORT}
    waiting: list[tuple[str, object]] = [("", config)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(name, inner) for inner in value]
        elif isinstance(value, str) and value and SECRET.search(name):
            found.add(value)
    for value in list(found):
        found |= {quote(value, safe=""), json.dumps(value)[1:-1]}
        found |= {line for line in value.splitlines() if len(line) >= LONG}
    return sorted(found, key=len, reverse=True)


class Process:
    """One run of a connector.

    Its standard error is kept in a log of the home, without secrets; an error names the log and shows none of it,
    since there may be values of rows in it.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], secrets: Sequence[str]) -> None:
        """Start it.

        Raises:
            GranaryError: this machine starts no more processes.
        """
        self.name, self.secrets = name, secrets
        self.log = home_folder() / "logs" / f"connector-{name}.log"
        self.raised = ""
        self.heard = time.monotonic()
        guarded = [sys.executable, "-I", "-S", str(GUARD), *command]
        try:
            self.process = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                cwd=PROJECT,
                start_new_session=True,
            )
        except OSError as error:
            raise GranaryError(f"it cannot be started: {error.strerror}", name, "see what else runs here") from None
        self._listener = threading.Thread(target=self._listen, name=f"granary-{name}", daemon=True)
        self._listener.start()

    def lines(self, silence: float) -> Iterator[bytes]:
        """Yield what it prints, a line each, until it has ended well.

        Args:
            silence: seconds after which one that says nothing, neither rows nor words, is ended.

        Raises:
            UnreachableError: it says nothing, prints a line that is too long, or ends with an error.
        """
        assert self.process.stdout is not None
        source, rest = self.process.stdout.fileno(), b""
        while True:
            self._wait(source, silence)
            block = os.read(source, BLOCK_BYTES)
            if not block:
                break
            if b"\n" not in block:
                rest += block
                if len(rest) > LINE_BYTES:
                    raise self.error(f"a line is longer than {LINE_BYTES:,} bytes")
                continue
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
        self._end()
        if rest.strip():
            yield rest

    def _wait(self, source: int, silence: float) -> None:
        self.heard, poll = time.monotonic(), select.poll()
        poll.register(source, select.POLLIN)
        while not poll.poll(max(10, min(1_000, silence * 250))):
            if time.monotonic() - self.heard > silence:
                self.kill()
                raise self.error(
                    f"it said nothing for {silence:g} s and was ended", "raise `silence` if it needs longer"
                )

    def _end(self) -> None:
        """Wait for its end, and see how it ended."""
        try:
            code = self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self.error(f"it closed its output and did not end within {WAIT_SECONDS:g} s") from None
        self._listener.join(1.0)
        self.kill()
        if code:
            why = f"it ended with exit code {code}" if code < 128 else f"it was ended by signal {code - 128}"  # noqa: PLR2004
            raise self.error(why + (f" ({self.raised})" if self.raised else ""))

    def error(self, what: str, todo: str = "see the log") -> UnreachableError:
        """Return an error of this run, with where its words are."""
        return UnreachableError(f"{self.name}: {what}", str(self.log), f"nothing of this run has landed; {todo}")

    def kill(self) -> None:
        """End it with everything that it started."""
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(WAIT_SECONDS)
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if stream:
                    stream.close()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with suppress(OSError, ValueError):
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
            with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as log:
                while line := self.process.stderr.readline(1 << 16):
                    self.heard = time.monotonic()
                    text = line.decode("utf-8", "replace")
                    for secret in self.secrets:
                        text = text.replace(secret, "…")
                    if found := RAISED.match(text):
                        self.raised = found[1]
                    log.write(text)
                    log.flush()
        while self.process.stderr.read(1 << 16):  # a log that cannot be written stops nothing
            self.heard = time.monotonic()
