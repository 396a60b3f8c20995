"""Memory stays flat: a file of many times what it grows by is read."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[4]
SCRIPT = """
import resource, sys
from granary.readers.files import FileReader, Xml
from tests.python.engine.files.conftest import table

def load(name):
    options = {"people": Xml(row="person")} if name.endswith(".xml") else None
    reader = FileReader(sys.argv[1], options=options)
    [unit] = reader.units(table(name), None)
    unit.content()
    return sum(batch.rows for batch in reader.read(table(name), unit, None))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

for suffix in sys.argv[2:]:
    load(f"small{suffix}")  # whatever is loaded once: libraries, pools
    before = peak()
    print(suffix, load(f"large{suffix}"), peak() - before)
"""
ROWS = 1000
"""Rows of a block; each has 400 characters that hardly compress."""

LARGE = {".csv": 250, ".csv.gz": 150, ".jsonl": 250, ".json": 100, ".xml": 100}
"""Blocks of 0.4 MB."""


def _content(suffix: str, blocks: int) -> Iterator[bytes]:
    chance = random.Random(7)
    names = [f"{chance.getrandbits(1600):0400x}" for _ in range(ROWS)]
    if suffix.startswith(".csv"):
        yield b"id,name,born,score\n"
        yield from ["".join(f"{n},{name},1815-12-10,1.5\n" for n, name in enumerate(names)).encode()] * blocks
        return
    objects = [json.dumps({"id": n, "name": name}).encode() for n, name in enumerate(names)]
    if suffix == ".jsonl":
        yield from [b"\n".join(objects) + b"\n"] * blocks
    elif suffix == ".json":
        yield b"["
        yield b",".join(objects)
        yield from [b"," + b",".join(objects)] * (blocks - 1)
        yield b"]"
    else:
        yield b"<people>"
        people = "".join(f"<person id='{n}'><name>{name}</name></person>" for n, name in enumerate(names))
        yield from [people.encode()] * blocks
        yield b"</people>"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Read a small file and then a large one of each format; the peak may grow by a few blocks."""
    for suffix, large in LARGE.items():
        for name, blocks in (("small", 30), ("large", large)):
            path = tmp_path / f"{name}{suffix}"
            with gzip.open(path, "wb", 1) if suffix.endswith(".gz") else path.open("wb") as file:
                for block in _content(suffix, blocks):
                    file.write(block)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), *LARGE],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    for line in done.stdout.splitlines():
        suffix, rows, grown = line.split()
        assert int(rows) == LARGE[suffix] * ROWS
        assert int(grown) < 30, line
    assert len(done.stdout.splitlines()) == len(LARGE)
