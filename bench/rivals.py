"""Other tools that load the same rows into the same server, each as its documentation advises for speed.

Run as a program, this is the dlt pipeline: `python -m bench.rivals TABLE URI FILE...`. dlt takes Arrow tables, writes
Parquet and loads that by ADBC, its quickest way into Postgres. sling is a program of its own, in
`bench/requirements.txt`; its reader of Parquet fetches DuckDB at run time, which is not possible everywhere, so it
gets the same rows as CSV.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from granary.warehouse.project import PROJECT

TIMEOUT_SECONDS = 600


def dlt(table: str, uri: str, files: list[Path], home: Path) -> float:
    """Return the seconds of a dlt pipeline, with the start of Python and of dlt taken off."""
    env = os.environ | {
        "DLT_DATA_DIR": str(home / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false", "PYTHONPATH": str(PROJECT)
    }  # fmt: skip
    printed = _run([sys.executable, "-m", "bench.rivals", table, uri, *map(str, files)], env, home)
    return float(printed.split()[-1])


def sling(table: str, uri: str, file: Path, home: Path) -> float | None:
    """Return the seconds of sling, None where it is not installed."""
    spec = importlib.util.find_spec("sling_linux_amd64")
    if spec is None or not spec.submodule_search_locations:
        return None
    program = Path(spec.submodule_search_locations[0]) / "bin" / "sling-linux-amd64"
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SLING_DISABLE_TELEMETRY": "true", "WAREHOUSE": uri}
    command = [str(program), "run", "--src-stream", f"file://{file}", "--tgt-conn", "WAREHOUSE"]
    command += ["--tgt-object", f"public.sling_{table}", "--mode", "full-refresh"]
    began = time.perf_counter()
    _run(command, env, home)
    return time.perf_counter() - began


def _run(command: list[str], env: dict[str, str], folder: Path) -> str:
    """Return what a program printed; end with its last words where it failed."""
    done = subprocess.run(
        command, env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … failed: {done.stderr[-2000:] or done.stdout[-2000:]}")
    return done.stdout


def _pipeline(table: str, uri: str, files: list[str]) -> None:
    import dlt  # noqa: PLC0415 - two seconds that are not to be measured
    import pyarrow.parquet as pq  # noqa: PLC0415

    @dlt.resource(name=table, write_disposition="replace")
    def rows():  # type: ignore[no-untyped-def]
        for file in files:
            yield pq.read_table(file)

    pipeline = dlt.pipeline(f"bench_{table}", destination=dlt.destinations.postgres(uri), dataset_name="dlt_bench")
    began = time.perf_counter()
    pipeline.run(rows(), loader_file_format="parquet")
    print(time.perf_counter() - began)


if __name__ == "__main__":
    _pipeline(sys.argv[1], sys.argv[2], sys.argv[3:])
