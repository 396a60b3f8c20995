"""Runs what the documents show. `python -m tests.python.support.documents` writes the real outputs into them.

A `sql` block followed by a `text` block is a query and its answer in psql; a `console` block has lines that begin
with `$ ` and their output, in which `...` stands for anything.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse.project import PROJECT
from granary.warehouse.psql import psql
from granary.warehouse.settings import Settings
from tests.python.support import diagram_page, metrics_page

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """Something that a document shows: what to run, and the span and text of what it shows to come of it."""

    path: Path
    kind: str
    command: str
    shown: str
    start: int
    end: int

    def __str__(self) -> str:
        first = self.command.strip().splitlines()[0][:50]
        return f"{self.path.relative_to(PROJECT)}: {first}"

    def run(self, settings: Settings) -> str:
        """Run it and return what it prints."""
        if self.kind == "sql":
            done = psql(settings, "--quiet", "--command", "set role analyst", "--command", self.command, capture=True)
            return rstrip(done.stdout + done.stderr)
        script = self.command.replace(".venv/bin/", "")
        environment = settings.environment()
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        shell = ["/bin/sh", "-c", script]
        ran = subprocess.run(shell, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        return rstrip(ran.stdout + ran.stderr)

    def agrees(self, printed: str) -> bool:
        """Return whether the document shows this; `...` there stands for anything."""
        pattern = re.escape(rstrip(self.shown)).replace(re.escape("..."), r"[\s\S]*")
        return re.fullmatch(pattern, printed) is not None


def rstrip(text: str) -> str:
    """Return the text without white space at the ends of its lines: editors remove it."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def documents() -> list[Path]:
    """Return every document of the project."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def examples(path: Path) -> Iterator[Example]:
    """Return the examples of a document, in order."""
    text = path.read_text()
    blocks = list(BLOCK.finditer(text))
    for block, following in zip_longest(blocks, blocks[1:]):
        if block["kind"] == "sql" and following and following["kind"] == "text":
            yield Example(path, "sql", block["body"], following["body"], following.start("body"), following.end("body"))
        if block["kind"] == "console":
            for part in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block["body"], re.MULTILINE):
                offset = block.start("body")
                yield Example(path, "console", part[1], part[2], offset + part.start(2), offset + part.end(2))


def heading(example: Example) -> str:
    """Return the heading that an example stands under."""
    above = example.path.read_text()[: example.start]
    return re.findall(r"^#+ (.+)$", re.sub(BLOCK, "", above), re.MULTILINE)[-1]


def main() -> None:
    """Write the real outputs into the documents, where they differ; uses the warehouse that the environment names."""
    settings = Settings.load()
    metrics_page.write(settings)
    diagram_page.write(settings)
    for path in documents():
        for example in reversed(list(examples(path))):
            printed = example.run(settings)
            if not example.agrees(printed):
                text = path.read_text()
                path.write_text(f"{text[: example.start]}{printed}\n{text[example.end :]}")
                print(f"written: {example}")


if __name__ == "__main__":
    main()
