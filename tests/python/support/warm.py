"""Commands in processes that are forked from one that has the libraries imported: seconds less for each.

A command's own process takes one to three seconds to import libraries, and the tests run commands by the hundred. What
is imported ahead is none of ours, since the engine finds its project when it is imported.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARIES = (
    *("typer", "rich.console", "rich.progress", "rich.table", "psycopg", "pyarrow", "pyarrow.compute", "pydantic"),
    *("yaml", "jinja2", "sqlglot", "requests", "cryptography", "sqlalchemy"),
    *("agate", "dbt.cli.main", "dbt.parser.manifest", "dagster"),
)
HERE = Path(__file__).resolve().parents[3]


def run(code: str, *arguments: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python code with arguments, as `python -c CODE ARGUMENT...` in a folder, with nothing on its standard input.

    What it says comes as text. The exit code is negative if a signal has ended it, as with `subprocess`.
    """
    ours, theirs = socket.socketpair()
    out, err = os.pipe(), os.pipe()
    with ours, ThreadPoolExecutor(2) as readers:
        socket.send_fds(_forking(), [b"."], [theirs.fileno(), out[1], err[1]])
        for end in (theirs.detach(), out[1], err[1]):
            os.close(end)
        with ours.makefile("rwb") as line:
            pickle.dump((code, arguments, str(folder), dict(environment)), line)
            line.flush()
            said = [readers.submit(_read, end) for end in (out[0], err[0])]
            status = pickle.load(line)
        return subprocess.CompletedProcess((code, *arguments), status, *(one.result() for one in said))


def _read(end: int) -> str:
    with open(end) as file:
        return file.read()


@cache
def _forking() -> socket.socket:
    """Start the process that has the libraries, once; return the line to it. It ends when the line is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # A library's threads do not survive the fork.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        subprocess.Popen(command, cwd=HERE, env=environment, pass_fds=[theirs.fileno()])
    return ours


def serve(requests: socket.socket) -> None:
    """Import the libraries; fork for each request."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while ends := socket.recv_fds(requests, 1, 3)[1]:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            _attend(*ends)
        for end in ends:
            os.close(end)


def _attend(asking: int, out: int, err: int) -> NoReturn:
    """Run what is asked for in one more process, and say how it ended."""
    with socket.socket(fileno=asking) as asked, asked.makefile("rwb") as line:
        code, arguments, folder, environment = pickle.load(line)
        child = os.fork()
        if child == 0:
            os.close(asking)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for number, end in enumerate((nothing, out, err)):
                os.dup2(end, number)
                os.close(end)
            _become(code, arguments, folder, environment)
        os.close(out)
        os.close(err)
        pickle.dump(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), line)
    os._exit(0)


def _become(code: str, arguments: tuple[str, ...], folder: str, environment: dict[str, str]) -> NoReturn:
    """Be a Python that was started in a folder with this code, to its end."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    searched = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [*filter(None, searched), *(path for path in sys.path if path not in ("", str(HERE)))]
    sys.argv = ["-c", *arguments]
    main = sys.modules["__main__"] = ModuleType("__main__")
    status = _status(code, main.__dict__)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(status)


def _status(code: str, names: dict[str, Any]) -> int:
    try:
        exec(compile(code, "<string>", "exec"), names)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
