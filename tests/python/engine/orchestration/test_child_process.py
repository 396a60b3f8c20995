"""Children end with their parent, though it was killed: a taken port or a build that nobody waits for is not left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from granary.warehouse.project import PROJECT

CHILD = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
GRANDCHILD = f"""
import subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
grandchild.wait()
"""
CHILD_PROCESS = f"""
import os, sys
from granary.dbt.child_process import start
start([sys.executable, "-c", {GRANDCHILD!r}], cwd=".", env=dict(os.environ)).wait()
"""
WATCHING = f"""
import subprocess, sys
child = "from granary.dbt.child_process import end_with_parent; end_with_parent();" + {CHILD!r}
subprocess.Popen([sys.executable, "-c", child]).wait()
"""


@pytest.mark.parametrize("parent", [CHILD_PROCESS, WATCHING], ids=["child process", "watching"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_parent_that_was_killed(parent: str, how: signal.Signals) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert killed.stdout
    assert int(killed.stdout.readline())
    os.kill(killed.pid, how)
    killed.wait()
    assert killed.stdout.read() == ""  # the pipe ends when the last process that has it does


def test_the_exit_code_is_that_of_the_command() -> None:
    code = "import sys; from granary.dbt.child_process import start; import os;"
    code += "sys.exit(start([sys.executable, '-c', 'raise SystemExit(7)'], cwd='.', env=dict(os.environ)).wait())"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 7
