"""The set-up, run as a person runs it, in small copies of the project that install without a network."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from granary.setup.environment import Stamp, plan
from granary.warehouse.project import PROJECT

MODULES = (
    "granary/__init__.py",
    *(f"granary/setup/{name}.py" for name in ("__init__", "__main__", "environment", "dbt_packages", "steps")),
    *(f"granary/warehouse/{name}.py" for name in ("__init__", "errors", "filelock")),
)

# A build backend in the project itself, so that nothing has to be fetched: a wheel with a path file and a script.
BACKEND = """
import os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    info = "granary-0.1.dist-info/"
    files = {
        "granary.pth": os.getcwd(),
        info + "METADATA": "Metadata-Version: 2.1\\nName: granary\\nVersion: 0.1\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        info + "entry_points.txt": "[console_scripts]\\ngranary = granary.cli.main:main\\n",
    }
    files[info + "RECORD"] = "".join(name + ",,\\n" for name in [*files, info + "RECORD"])
    with zipfile.ZipFile(os.path.join(folder, "granary-0.1-py3-none-any.whl"), "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return "granary-0.1-py3-none-any.whl"
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "granary"
version = "0.1"
"""
PACKAGES = "packages:\n  - package: dbt-labs/dbt_utils\n    version: 1.4.1\n"
LOCKED = PACKAGES.replace("- package", "- name: dbt_utils\n    package")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the real set-up and nothing to install but itself."""
    root = tmp_path / "a project"
    files = {
        "pyproject.toml": PYPROJECT,
        "backend.py": BACKEND,
        "requirements.lock": "# nothing\n",
        "requirements-dev.lock": "# nothing\n",
        "granary/cli/main.py": "def main():\n    print('the command runs')\n",
        "packages.yml": PACKAGES,
        "package-lock.yml": LOCKED,
        "granary/setup/offline/dbt_utils/dbt_project.yml": "name: dbt_utils\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in MODULES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    shutil.copy(PROJECT / "Makefile", root / "Makefile")
    return root


def environment(**settings: str) -> dict[str, str]:
    """The shell of somebody whose environment says nothing about Granary."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GRANARY", "PG", "MAKE", "PYTHON"))}
    return kept | {"GRANARY_MIN_DISK_GB": "0.1", **settings}


def set_up(root: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "granary" / "setup"), *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def works(root: Path) -> bool:
    """Whether the installed command runs and the environment is stamped as complete."""
    command = [str(root / ".venv/bin/granary")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    return done.stdout == "the command runs\n" and (root / ".venv/granary.json").exists()


def test_from_nothing_then_nothing_to_do_then_only_what_changed(project: Path) -> None:
    first = set_up(project)
    assert first.returncode == 0, first.stderr
    assert works(project)
    steps = [line.split("  ")[1].split(":")[0] for line in first.stdout.splitlines()[1:-1]]
    python = f"Python {sys.version.split()[0]}"
    assert steps == [
        python,
        "virtual environment .venv",
        "0 packages from requirements.lock and requirements-dev.lock",
        "the granary command",
        "dbt packages",
    ]
    assert "dbt_utils 1.4.1 is the stand-in in offline/" in first.stdout
    assert (project / "dbt_packages/dbt_utils/dbt_project.yml").read_text() == "name: dbt_utils\n"

    began = time.monotonic()
    second = set_up(project)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert time.monotonic() - began < 1  # 0.1 s on an idle machine

    # A new lock is brought into the environment that is there: its other files stay.
    (project / ".venv/bystander").touch()
    (project / "requirements-dev.lock").write_text("# something else\n")
    third = set_up(project)
    assert third.returncode == 0, third.stderr
    assert "virtual environment" not in third.stdout
    assert "packages from requirements.lock" in third.stdout
    assert (project / ".venv/bystander").exists()
    assert set_up(project).stdout == ""

    # `dbt deps` without the hub leaves an empty folder; the next run repairs it.
    shutil.rmtree(project / "dbt_packages")
    (project / "dbt_packages").mkdir()
    fourth = set_up(project)
    assert fourth.returncode == 0, fourth.stderr
    assert [line.split(":")[0].strip() for line in fourth.stdout.splitlines()[:-1]] == ["dbt packages"]
    assert (project / "dbt_packages/dbt_utils").is_symlink()


def finished(root: Path, **changes: str) -> None:
    """Write the stamp of a finished environment whose interpreter is this one."""
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/python").symlink_to(sys.executable)
    (root / ".venv/granary.json").write_text(json.dumps(asdict(Stamp.wanted(root)) | changes))


def test_what_is_kept_of_an_environment(project: Path) -> None:
    assert plan(project, this_python=False) == (Stamp.wanted(project), None)
    finished(project)
    wanted, kept = plan(project, this_python=True)
    assert kept == wanted == Stamp.wanted(project)
    assert wanted.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    stamp = project / ".venv/granary.json"
    complete = stamp.read_text()
    stamp.write_text(complete[:20])
    assert plan(project, this_python=False)[1] is None
    stamp.write_text("{}")
    assert plan(project, this_python=False)[1] is None
    stamp.write_text(complete)
    (project / ".venv/bin/python").unlink()
    (project / ".venv/bin/python").symlink_to("/nowhere/python")
    assert plan(project, this_python=False)[1] is None


def test_another_python_is_reason_for_another_environment_only_when_it_was_chosen(project: Path) -> None:
    finished(project, python="3.9")
    (project / "packages.yml").unlink()
    assert plan(project, this_python=True)[1] is None
    assert set_up(project).stdout == ""


@pytest.mark.parametrize("damage", ["moved", "dead interpreter"])
def test_a_damaged_environment_is_made_anew(project: Path, damage: str) -> None:
    if damage == "moved":
        finished(project, folder="/elsewhere/.venv")
    else:  # found out as soon as there is something to install
        finished(project, lock="an older one", python="3.9")
        (project / ".venv/bin/python").unlink()
        (project / ".venv/bin/python").symlink_to("/bin/false")
    done = set_up(project)
    assert done.returncode == 0, done.stderr
    assert "virtual environment .venv: unfinished, moved or of another Python, so made anew" in done.stdout
    assert works(project)
    assert plan(project, this_python=True)[1] == Stamp.wanted(project)


def test_a_linked_environment_loses_the_link_and_not_its_files(project: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (project / ".venv").symlink_to(tmp_path / "precious")
    assert set_up(project).returncode == 0
    assert works(project)
    assert (tmp_path / "precious/file").exists()


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence on stderr of a set-up that stopped."""
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.strip()


def test_no_disk_space(project: Path) -> None:
    sentence = refusal(set_up(project, GRANARY_MIN_DISK_GB="1000000"))
    assert f"GB are free at {project}, and the environment and the demo's warehouse need 1e+06 GB" in sentence
    assert "make room, or set GRANARY_MIN_DISK_GB" in sentence
    assert not (project / ".venv").exists()
    sentence = refusal(set_up(project, GRANARY_MIN_DISK_GB="plenty"))
    assert "GRANARY_MIN_DISK_GB is 'plenty': set it to gigabytes" in sentence
    # Where a warehouse has filled the disk already, its space is not asked for again.
    (project / ".granary/data").mkdir()
    sentence = refusal(set_up(project, GRANARY_MIN_DISK_GB="1000000"))
    assert "and the environment needs 1e+06 GB" in sentence


def test_packages_that_do_not_install(project: Path) -> None:
    lock = project / "requirements.lock"
    lock.write_text(f"granary-nowhere==1.0 --hash=sha256:{'0' * 64}\n")
    sentence = refusal(set_up(project, PIP_NO_INDEX="1"))
    assert "No matching distribution found for granary-nowhere==1.0" in sentence
    assert f"see {project}/.granary/logs/setup.log, then run this again" in sentence
    assert "granary-nowhere" in (project / ".granary/logs/setup.log").read_text()
    lock.write_text("# nothing\n")
    (project / "pyproject.toml").write_text("[project]\nname = 5\n")
    sentence = refusal(set_up(project))
    assert "installing the project itself failed" in sentence
    # The packages are there, so the next run does not fetch them again.
    (project / "pyproject.toml").write_text(PYPROJECT)
    done = set_up(project)
    assert done.returncode == 0
    assert "packages from requirements.lock" not in done.stdout
    assert works(project)


def test_a_dbt_package_that_neither_the_hub_nor_offline_has(project: Path) -> None:
    finished(project)
    shutil.rmtree(project / "granary/setup/offline")
    sentence = refusal(set_up(project, DBT_PACKAGE_HUB_URL="http://127.0.0.1:9/"))
    assert "the dbt package hub cannot be reached and offline/ has no stand-in for dbt_utils" in sentence


def test_dbt_packages_that_dbt_deps_installed_stay_until_another_version_is_declared(project: Path) -> None:
    finished(project)
    theirs = project / "dbt_packages/dbt_utils/dbt_project.yml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("name: dbt_utils\nversion: 0.1.0\n")
    assert set_up(project).stdout == ""
    assert theirs.parent.is_dir()
    assert not theirs.parent.is_symlink()
    (project / "packages.yml").write_text(PACKAGES.replace("1.4.1", "1.5.0"))
    (project / "package-lock.yml").write_text(LOCKED.replace("1.4.1", "1.5.0"))
    done = set_up(project, DBT_PACKAGE_HUB_URL="http://127.0.0.1:9/")
    assert done.returncode == 0, done.stderr
    assert "dbt packages: hub not reachable, so dbt_utils 1.5.0 is the stand-in in offline/" in done.stdout
    assert theirs.parent.is_symlink()


@contextmanager
def hub() -> Iterator[str]:
    """A package hub with a dbt_utils of its own; yields its address."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in ("dbt_project.yml", b"name: dbt_utils\n# from the hub\n"), ("macros/a.sql", b""):
            entry = tarfile.TarInfo(f"dbt-utils-1.4.1/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = {
                "name": "dbt_utils",
                "version": "1.4.1",
                "packages": [],
                "downloads": {"tarball": f"http://{self.headers['Host']}/tarball"},
            }
            pages = {
                "/api/v1/index.json": json.dumps(["dbt-labs/dbt_utils"]).encode(),
                "/api/v1/dbt-labs/dbt_utils.json": json.dumps(
                    {"name": "dbt_utils", "versions": {"1.4.1": version}}
                ).encode(),
                "/tarball": archive.getvalue(),
            }
            self.send_response(200 if self.path in pages else 404)
            self.end_headers()
            self.wfile.write(pages.get(self.path, b""))

        def log_message(self, *_: object) -> None:
            """Say nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def test_the_engines_own_dbt_package_is_linked_wherever_the_engine_is(project: Path) -> None:
    (project / "package-lock.yml").unlink()
    (project / "packages.yml").write_text("packages:\n  - local: .venv/granary/dbt_package\n")
    missing = set_up(project)
    assert missing.returncode == 1
    words = "packages.yml names the folder .venv/granary/dbt_package, which has no dbt project: correct it"
    assert words in missing.stderr

    package = project / "granary/dbt_package/dbt_project.yml"
    package.parent.mkdir()
    package.write_text("name: granary\n")
    done = set_up(project)
    assert done.returncode == 0, done.stderr
    assert "dbt packages: the project's own" in done.stdout  # neither hub nor offline/ is asked
    linked = project / "dbt_packages/granary"
    assert linked.readlink() == Path("../.venv/granary/dbt_package")
    assert (linked / "dbt_project.yml").resolve() == package.resolve()
    assert set_up(project).stdout == ""

    (project / ".venv/granary").unlink()
    assert set_up(project).returncode == 0
    assert (linked / "dbt_project.yml").read_text() == "name: granary\n"


def test_dbt_packages_come_from_the_hub_when_it_answers(project: Path) -> None:
    finished(project)
    # The environment of the tests stands for the project's own: the same Python with dbt in it.
    for name in ("python", "dbt"):
        (project / f".venv/bin/{name}").unlink(missing_ok=True)
        (project / f".venv/bin/{name}").write_text(f'#!/bin/sh\nexec "{Path(sys.executable).with_name(name)}" "$@"\n')
        (project / f".venv/bin/{name}").chmod(0o755)
    with hub() as address:
        done = set_up(project, DBT_PACKAGE_HUB_URL=address, NO_PROXY="127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert "dbt packages: dbt_utils 1.4.1 from the hub" in done.stdout
    installed = project / "dbt_packages/dbt_utils"
    assert not installed.is_symlink()
    assert "# from the hub" in (installed / "dbt_project.yml").read_text()
    assert not (project / ".venv/dbt_packages").exists()
    assert set_up(project).stdout == ""


def test_two_at_once(project: Path) -> None:
    command = [sys.executable, str(project / "granary" / "setup")]
    both = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = sorted((process.communicate(timeout=120)[0] for process in both), key=len)
    assert [process.returncode for process in both] == [0, 0]
    assert "Waiting: another process is setting up this folder: pid " in outputs[0]
    assert " (setup), since " in outputs[0]
    assert sum("virtual environment .venv" in output for output in outputs) == 1
    assert works(project)


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle(project: Path, word: signal.Signals) -> None:
    command = [sys.executable, str(project / "granary" / "setup")]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (project / ".venv/bin/python").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(word)
    said = process.communicate(timeout=60)[1]
    if word is not signal.SIGKILL:
        assert process.returncode == 1
        assert said == "Set-up stopped: it was interrupted; the next run repairs what is half done.\n"
    assert plan(project, this_python=False)[1] != Stamp.wanted(project)
    assert set_up(project).returncode == 0
    assert works(project)


def test_a_python_that_is_too_old_or_too_new(project: Path, tmp_path: Path) -> None:
    setup = project / "granary/setup"
    start = setup / "__main__.py"
    start.write_text(start.read_text().replace('("3.13", "3.12", "3.11", "3.10")', '("9.9", "9.8")'))
    (tmp_path / "bin").mkdir()
    found = f"Granary needs Python 3.10 to 3.13 and was started with {sys.version.split()[0]}"
    sentence = refusal(set_up(project, PATH=str(tmp_path / "bin")))
    assert sentence == f"{found}: install one of them, or say where it is: make PYTHON=/path/to/python3.12 setup"
    # A version manager's shim that refuses to run is passed over; the next one that answers is used.
    for version, answer in ("9.9", "exit 127"), ("9.8", '[ "$1" = -c ] && exit 0; echo "running $*"'):
        script = tmp_path / "bin" / f"python{version}"
        script.write_text(f"#!/bin/sh\n{answer}\n")
        script.chmod(0o755)
    done = set_up(project, "--this-python", PATH=str(tmp_path / "bin"))
    assert done.stderr == f"{found}: using {tmp_path}/bin/python9.8 instead.\n"
    assert done.stdout == f"running {setup} --this-python\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["MAKE_VERSION=3.80", "help"], "Granary needs GNU make 3.81 or newer and this is make 3.80: install a newer"),
        (["PYTHON=/nowhere/python", "setup"], "no /nowhere/python found; install Python 3.10 to 3.13, or say where"),
    ],
)
def test_make_says_what_is_missing(project: Path, arguments: list[str], sentence: str) -> None:
    done = subprocess.run(
        ["make", *arguments], cwd=project, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (project / ".venv").exists()


def test_make_sets_up_and_calls_the_command(project: Path) -> None:
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", "demo"],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the command runs\n")
