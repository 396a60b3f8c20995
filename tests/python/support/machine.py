"""A machine that has a wheel of the engine, and what the engine depends on: neither a checkout nor the sample."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

from granary.warehouse.project import PROJECT

OURS = ("granary", "__editable__", "dbt_granary", "pip", "setuptools", "distutils", "_virtualenv")
"""What the environment of the tests has beside the packages that the engine depends on."""
REPLACED = {"halo": "0.0.31", "update-checker": "0.18.0"}
"""Packages that dbt-metricflow asks for and the lock leaves out; pip wants to see them."""
INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR")


@dataclass
class Machine:
    """A home folder, the packages, and where its shell is; `spent`: each command's seconds, and those of processors."""

    home: Path
    packages: Path
    wheels: Path
    place: Path
    spent: list[tuple[str, float, float]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Return the environment of its shell: pip asks no index."""
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return kept | {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}{kept['PATH']}",
            "PYTHONPATH": str(self.packages),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "COLUMNS": "120",
        }

    def run(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of a shell, as a person types it; where it changes to is where the next one runs."""
        began, worked = time.monotonic(), worked_by_children()
        place = self.home / "place"
        done = subprocess.run(
            ["bash", "-c", f"{command}\ncode=$?; pwd > {place}; exit $code"],
            cwd=self.place,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        self.spent.append((command, time.monotonic() - began, worked_by_children() - worked))
        self.place = Path(place.read_text().strip())
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def timings(self) -> str:
        """Return the seconds of each command, and of all."""
        rows = [
            *self.spent,
            ("in all", *(sum(column) for column in zip(*[one[1:] for one in self.spent], strict=True))),
        ]
        return "\n".join(f"{wall:7.1f} s  {cpu:7.1f} s  {command.splitlines()[0][:100]}" for command, wall, cpu in rows)


def worked_by_children() -> float:
    """Return the seconds that processors have worked for children of this process: it does not grow under load."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine(folder: Path) -> Machine:
    """Make a machine in a folder: build the wheel, and lay out the packages as `pip install --target` does."""
    packages, home = folder / "packages", folder / "home"
    (packages / "bin").mkdir(parents=True)
    home.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(OURS) and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    (packages / "bin" / "ruff").symlink_to(Path(sysconfig.get_path("scripts")) / "ruff")
    for name, version in REPLACED.items():
        info = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return Machine(home, packages, wheel(folder).parent, home)


def wheel(folder: Path) -> Path:
    """Build the wheel of the engine from a copy of what it is made of; return its path."""
    checkout, wheels = folder / "checkout", folder / "wheels"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "dbt_granary.py", "requirements.lock"):
        shutil.copy(PROJECT / name, checkout)
    shutil.copytree(PROJECT / "granary", checkout / "granary", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(wheels)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(checkout)], check=True, timeout=300)
    shutil.rmtree(checkout)
    (built,) = wheels.iterdir()
    return built
