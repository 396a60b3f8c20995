"""Which Java and which Spark a cluster starts with."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from granary.warehouse.errors import GranaryError

OLDEST, NEWEST = 17, 21
"""The releases of Java that Spark 4 is made for."""
GET_JAVA = (
    "install Java 17 (Debian and Ubuntu: apt-get install openjdk-17-jre-headless) or say where it is: JAVA_HOME=FOLDER"
)
INSTALL = "install the extra `spark`: pip install 'granary-elt[spark]'"


def spark_home() -> Path:
    """Return the folder of Spark's scripts and jars, which comes with pyspark.

    Raises:
        GranaryError: pyspark is not installed.
    """
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise GranaryError("pyspark is not installed", todo=INSTALL)
    return Path(found.origin).parent


def scala_version(home: Path) -> str:
    """Return the version of Scala that Spark's jars are built for, such as 2.13."""
    return next(home.glob("jars/spark-core_*.jar")).name.split("_")[1].split("-")[0]


def java_home() -> Path:
    """Return the folder of a Java that Spark works with: that of JAVA_HOME, of the command `java`, or Debian's.

    Raises:
        GranaryError: there is none; it says what was found instead.
    """
    told = os.environ.get("JAVA_HOME")
    command = shutil.which("java")
    candidates = [Path(told)] if told else []
    if command and not told:
        candidates.append(Path(command).resolve().parent.parent)
    if not told:
        candidates += sorted(Path("/usr/lib/jvm").glob("java-17-*"))
    seen = []
    for home in candidates:
        release = java_release(home)
        if release is not None and OLDEST <= release <= NEWEST:
            return home
        seen.append(f"{home}: {'no Java' if release is None else f'Java {release}'}")
    found = "; ".join(dict.fromkeys(seen)) or "no command `java`"
    raise GranaryError(f"Spark needs Java {OLDEST} to {NEWEST}", found, GET_JAVA)


def java_release(home: Path) -> int | None:
    """Return the release of the Java in a folder, such as 17, or nothing where there is none."""
    try:
        said = subprocess.run(
            [str(home / "bin" / "java"), "-version"], capture_output=True, text=True, check=True, timeout=60
        ).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else None
