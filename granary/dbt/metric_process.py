"""`python -m granary.dbt.metric_process`: answers questions for metrics at once, since MetricFlow is loaded already.

The command starts it when it is first asked for a metric, and it ends by itself. It listens on a socket in the home,
which is its owner's alone; a question and its answer are a line of JSON each.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

from granary.dbt.semantic import Question
from granary.dbt.semantic import sql as write_sql
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings

SOCKET, LOG = "metric.sock", "logs/metric.log"
IDLE_SECONDS = 900.0
"""How long it waits for another question before it ends."""
LOOK_SECONDS = 5.0
"""How often it looks whether its socket is still there: without it, as after `granary down`, it ends."""
START_SECONDS = 30.0
ANSWER_SECONDS = 600.0


def ask(settings: Settings, question: Question, role: str) -> dict[str, Any]:
    """Return the answer, as `columns` and `rows`; starts the process if there is none of this engine and database.

    Raises:
        GranaryError: what the process says, or it does not answer.
    """
    line = json.dumps({"for": _identity(settings), "question": asdict(question), "role": role}) + "\n"
    began = time.monotonic()
    child = None
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.settimeout(ANSWER_SECONDS)
                stream.connect(str(settings.home / SOCKET))
                stream.sendall(line.encode())
                said = json.loads(stream.makefile().readline() or "{}")
        except (OSError, ValueError):
            said = {}
        if "rows" in said:
            return dict(said)
        if "what" in said:
            kind = UsageError if said["usage"] else GranaryError
            raise kind(said["what"], said["where"], said["todo"])
        if child is None or child.poll() == 0:  # nobody answers, or one that was another and has ended
            child = _start(settings)
        if child.poll() or time.monotonic() - began > START_SECONDS:
            what = "the process that answers for metrics does not start"
            raise GranaryError(what, str(settings.home / LOG), "see its log")
        time.sleep(0.05)


def _start(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the process, which outlives this one."""
    path = settings.home / LOG
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", __name__],
            env=settings.environment() | {"GRANARY_PROJECT": str(PROJECT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _identity(settings: Settings) -> str:
    """Return which engine, project and database this is: a process of another one ends when it is asked."""
    room = Path(__file__).parent
    changed = max(one.stat().st_mtime_ns for folder in (room, room.parent / "warehouse") for one in folder.glob("*.py"))
    return f"{room} {changed} {PROJECT} {settings.host} {settings.port} {settings.database} {settings.user}"


def serve(settings: Settings) -> None:
    """Answer until nobody has asked for a while, the socket is somebody else's, or another one asks."""
    mine, writing = _identity(settings), threading.Lock()
    path = settings.home / SOCKET
    fresh = path.with_suffix(f".{os.getpid()}")
    os.umask(0o077)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(fresh))
        door.listen(16)
        door.settimeout(LOOK_SECONDS)
        fresh.replace(path)  # of two that start at once the later one is asked
        me, asked = path.stat().st_ino, time.monotonic()
        while _is(path, me) and (time.monotonic() - asked < IDLE_SECONDS or threading.active_count() > 1):
            try:
                stream, _ = door.accept()
            except TimeoutError:
                continue
            stream.settimeout(ANSWER_SECONDS)
            said = _hear(stream)
            if said.get("for") != mine:
                stream.close()
                if said:
                    break
                continue
            asked = time.monotonic()
            threading.Thread(target=_answer, args=(settings, writing, stream, said)).start()
        if _is(path, me):
            path.unlink()


def _is(path: Path, number: int) -> bool:
    """Return whether this file is there."""
    try:
        return path.stat().st_ino == number
    except OSError:
        return False


def _hear(stream: socket.socket) -> dict[str, Any]:
    """Return what is asked, nothing if it is no question."""
    try:
        return dict(json.loads(stream.makefile().readline()))
    except (OSError, ValueError, TypeError):
        return {}


def _answer(settings: Settings, writing: threading.Lock, stream: socket.socket, said: Any) -> None:
    """Answer one question, or say why not."""
    words: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in said["question"].items()
    }
    answer: dict[str, Any]
    from granary.warehouse.reading import read  # noqa: PLC0415 - not needed by who asks

    try:
        with writing:
            sql = write_sql(settings, Question(**words))
        table = read(sql, role=said["role"])
        columns = [_days(column.to_pylist()) for column in table.columns]
        answer = {"columns": table.column_names, "rows": list(zip(*columns, strict=True))}
    except GranaryError as error:
        usage = isinstance(error, UsageError)
        answer = {"what": error.what, "where": error.where, "todo": error.todo, "usage": usage}
    except Exception as error:
        traceback.print_exc()
        what = f"the question cannot be answered: {type(error).__name__}"
        answer = {"what": what, "where": str(settings.home / LOG), "todo": "see its log", "usage": False}
    with stream, suppress(OSError):  # who asked may have gone
        stream.sendall((json.dumps(answer, default=str) + "\n").encode())


def _days(values: list[Any]) -> list[Any]:
    """Return the dates of a column of moments that are all midnights: MetricFlow cuts days and months off so."""
    moments = [one for one in values if isinstance(one, datetime)]
    if not moments or any(one.time() != time_of_day.min for one in moments):
        return values
    return [one and one.date() for one in values]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the command that has started it
    serve(Settings.load())
