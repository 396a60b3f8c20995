"""One load in a process of its own, so that its memory can be told: `python -m bench.child SOURCE TABLE`.

Prints the seconds of the load, without the start of Python, the rows that landed, and the peak of memory in MB.
"""

from __future__ import annotations

import sys
import time

from bench.peak import peak_mb
from bench.tables import sources
from granary.load import api as load
from granary.warehouse.settings import Settings


def main() -> None:
    """Load a table."""
    settings = Settings.load()
    load.SOURCES = sources(settings)
    began = time.perf_counter()
    result = load.load_table(settings, sys.argv[1], sys.argv[2])
    print(time.perf_counter() - began, result.rows_loaded, peak_mb())


if __name__ == "__main__":
    main()
