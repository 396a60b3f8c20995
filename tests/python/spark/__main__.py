"""`make test-spark`: the tests of this folder, in an environment with the extra `spark` on top of that of the project.

It takes the project's packages from .venv and has only what Spark needs besides, from requirements-spark.lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = ROOT / ".venv" / "spark"
LOCK = ROOT / "requirements-spark.lock"
OLDEST = (3, 11)
"""The first Python that pyspark 4.3 is made for."""


def main() -> int:
    """Bring the environment up to date, see that there is a Java, and run the tests; return pytest's exit code."""
    if sys.version_info < OLDEST:
        sys.exit("Spark 4.3 needs Python 3.11 or newer: make PYTHON=python3.12 test-spark in a fresh checkout")
    sys.path.insert(0, str(ROOT))
    from granary.spark.java import java_home  # noqa: PLC0415 - found by the line above
    from granary.warehouse.errors import GranaryError  # noqa: PLC0415

    try:
        java_home()
    except GranaryError as error:
        sys.exit(f"test-spark stopped: {error}")
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT)
    (site,) = ENVIRONMENT.glob("lib/python*/site-packages")
    (site / "project.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    stamp = ENVIRONMENT / "installed.lock"
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        # Without their dependencies, which are in the lock or in .venv. pyspark comes as a source archive of jars.
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--require-hashes", "--requirement", str(LOCK)),
            ],
            check=True,
        )
        stamp.write_bytes(LOCK.read_bytes())
    arguments = sys.argv[1:] or ["tests/python/spark"]
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    tests = [str(python), "-m", "pytest", "-n", "0", *arguments]
    return subprocess.run(tests, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
