"""Finds tables in files: names that differ only by dates or numbers are deliveries of one table."""

from __future__ import annotations

import glob
import re
from collections import Counter
from datetime import date, timedelta
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from granary.profiling.names import snake
from granary.scaffold.apis import SECRET
from granary.scaffold.common_format import agreed, aligned, declared, looks, refused, totals, unread, without_gap
from granary.scaffold.plan import Found, Opening
from granary.scaffold.python_text import Group, literal
from granary.warehouse.errors import GranaryError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from granary.readers.files.sniff import Sniffed
    from granary.scaffold.reading import Text

ROWS = 200_000
"""Rows of one table that are looked at."""
FILES = 24
"""Files of one table that are opened, spread over all of them."""
HEADS = 500
"""Files of this machine whose beginnings are compared before a way of writing is declared for all of them."""
LOOK_ROWS = 200
"""Rows by which a file without a telling suffix shows whether it is a table."""
MOST_FILES = 50_000
DIGITS = re.compile(r"\d+(?:[-_.T]?\d+)*Z?")
DATED = re.compile(r"(?<!\d)(\d{4})[-_.]?(\d{2})(?:[-_.]?(\d{2}))?(?!\d)")
STATIC = timedelta(days=32)
"""How old a file may grow that is not one of several dated ones."""
UNTOLD = ("xml", "zip")
"""Suffixes of files whose format the content tells."""


def find(where: str, only: Collection[str] = ()) -> tuple[str, list[Found], list[str], list[Group]]:
    """Find the tables of a folder or of a single file, on this machine or behind a URL.

    Returns:
        The folder, its tables, what was left out and why, and the formats that the reader has to be told.

    Raises:
        GranaryError: nothing is there, or a file cannot be read.
    """
    from granary.readers.files.sniff import sniff

    folder, names = list_files(where)
    skipped = [f"{name!a}: its name has unprintable characters" for name in names if not name.isprintable()]
    names = [name for name in names if name.isprintable()]
    strange = {name: why for name in names if not _known(name) and len(names) > 1 and (why := _no_table(folder, name))}
    skipped += [f"{name}: {why}" for name, why in strange.items()]
    groups = group([name for name in names if name not in strange], alone=_is_one_file(where))
    named = _table_names(groups)
    found, entries = [], []
    for name, (pattern, members) in zip(named, groups.items(), strict=True):
        if only and snake(name) not in only:
            continue
        if not only and len(members) == 1 and _is_empty(folder, members[0]):
            skipped.append(f"{members[0]}: it is empty")
            continue
        try:
            heads = 0 if "://" in folder else HEADS
            table, option = _sample(
                name, pattern, members, lambda file, limit: sniff(_join(folder, file), limit=limit), heads
            )
        except GranaryError as error:
            if len(groups) == 1 or only:
                raise
            skipped.append(f"{members[0] if len(members) == 1 else pattern}: {error}")
            continue
        found.append(table)
        if option is not None:
            entries.append(Group(f"{literal(snake(name))}: {option.head}", option.parts))
    if only and len(found) < len(only):
        missing = min(set(only) - {snake(name) for name in named})
        raise unknown("table", missing, map(snake, named), shown(where))
    return folder, found, skipped, entries


def list_files(where: str) -> tuple[str, list[str]]:
    """Return a place, and the names of its files below it; of a single file its folder and its name."""
    from granary.readers.files.names import is_temporary

    if "://" in where:
        return _list_remote(where)
    path = Path(where).expanduser().absolute()
    if path.is_file():
        return str(path.parent), [path.name]
    if not path.is_dir():
        raise GranaryError("there is no such file or folder", str(path), "check the path")
    real = path.resolve()
    names = []
    for each in sorted(path.rglob("*")):
        name = each.relative_to(path).as_posix()
        if each.is_file() and each.resolve().is_relative_to(real) and not is_temporary(name, "*"):
            names.append(name)
        if len(names) > MOST_FILES:
            raise GranaryError(f"the folder has over {MOST_FILES:,} files", str(path), "name one of its folders")
    if not names:
        raise GranaryError("the folder has no files", str(path), "check the path")
    return str(path), names


def _list_remote(where: str) -> tuple[str, list[str]]:
    from granary.readers.files.names import is_temporary
    from granary.readers.files.places import open_store
    from granary.readers.files.sniff import _split

    folder, name = _split(where)
    web = urlsplit(where)
    if web.scheme in ("http", "https") and any(SECRET.search(param) for param, _ in parse_qsl(web.query)):
        todo = "declare the key as a header: see `granary guide sources/files`"
        raise GranaryError("the address has a secret among its parameters, which would be in code", shown(where), todo)
    if where.startswith(("http://", "https://")) or _known(name):
        return folder, [name]
    store = open_store(where, {})
    names = [e.name for e in store.entries("**", "the source") if not is_temporary(e.name, "**") and not e.problem]
    if not names:
        raise GranaryError("the place has no files", store.place, "check the address")
    return where, names


def shown(where: str) -> str:
    """Return a place without the credentials that its address may hold."""
    if "://" not in where:
        return where
    parts = urlsplit(where)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _join(folder: str, name: str) -> str:
    url, mark, query = folder.partition("?") if "://" in folder else (folder, "", "")
    return f"{url.rstrip('/')}/{name}{mark}{query}"


def _known(name: str) -> bool:
    from granary.readers.files.formats import by_name

    found, packed = by_name(name)
    return found is not None or packed == "zip" or name.lower().endswith(UNTOLD)


def _no_table(folder: str, name: str) -> str:
    """Return why a file whose suffix says nothing is not a table; "" if it is delimited text, or tells what it is."""
    from granary.readers.files.formats import Csv
    from granary.readers.files.sniff import sniff

    advice = "no known format; give the file itself to have it looked at"
    if "://" in folder:
        return advice
    try:
        found = sniff(_join(folder, name), limit=LOOK_ROWS)
    except GranaryError:
        return advice
    plain = isinstance(found.options, Csv) and (found.sample.num_columns < 2 or found.refused)  # noqa: PLR2004
    return advice if plain or not found.sample.num_rows else ""


def _is_empty(folder: str, name: str) -> bool:
    path = Path(folder) / name
    return "://" not in folder and path.stat().st_size == 0


def _is_one_file(where: str) -> bool:
    """Return whether a person named a single file, and so meant no other."""
    if "://" not in where:
        return Path(where).expanduser().is_file()
    return where.startswith(("http://", "https://")) or _known(urlsplit(where).path)


def group(names: Sequence[str], *, alone: bool = False) -> dict[str, list[str]]:
    """Return the files by pattern: `rentals_*.csv` for rentals_2024-01.csv and rentals_2024-02.csv.

    Of a file without a date, such as orders.csv, the next delivery may be called orders_2026-05.csv: `orders*.csv`. A
    file that is meant `alone` is its own pattern. A pattern never matches a file of another table.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(DIGITS.sub("\0", _without_suffix(name)) + _suffix(name), []).append(name)
    _join_later(alike)
    groups: dict[str, list[str]] = {}
    for shape, members in alike.items():
        others = set(names) - set(members)
        if len(members) == 1 and not dated(members[0]):
            pattern = f"{glob.escape(_without_suffix(members[0]))}*{glob.escape(_suffix(members[0]))}"
            if alone or any(fnmatchcase(other, pattern) for other in others):
                pattern = glob.escape(members[0])
            groups[pattern] = members
            continue
        for star in ("*", "[0-9]*"):
            pattern = star.join(glob.escape(part) for part in shape.split("\0"))
            if not any(fnmatchcase(other, pattern) for other in others):
                groups[pattern] = members
                break
        else:
            groups |= {glob.escape(name): [name] for name in members}
    return groups


def _join_later(alike: dict[str, list[str]]) -> None:
    """Put later deliveries with a date or number (orders_2026-05.csv) to a first one without (orders.csv)."""
    for shape in [shape for shape in alike if "\0" in shape]:
        suffix = _suffix(alike[shape][0])
        stem = shape.removesuffix(suffix)
        first = stem.partition("\0")[0].rstrip("-_. ") + suffix
        if stem.count("\0") == 1 and stem.endswith("\0") and first in alike and alike[first] == [first]:
            del alike[first]
            alike[f"{first.removesuffix(suffix)}\0{suffix}"] = sorted([first, *alike.pop(shape)])


def _suffix(name: str) -> str:
    """Return the part of a file's name from the first dot of its format's suffix on: ".csv.gz"."""
    from granary.readers.files.formats import stem

    last = PurePosixPath(name).name
    return last[len(stem(last)) :]


def _without_suffix(name: str) -> str:
    suffix = _suffix(name)
    return name[: -len(suffix)] if suffix else name


def dated(name: str) -> date | None:
    """Return the date in a file's name: a day, or the first day of a month."""
    for year, month, day in DATED.findall(name):
        try:
            return date(int(year), int(month), int(day or 1))
        except ValueError:
            continue
    return None


def _table_names(groups: dict[str, list[str]]) -> list[str]:
    """Return a name for each pattern: the file's own words, or its folder's where the file has only a number."""
    said = []
    for members in groups.values():
        parts = [snake(DIGITS.sub(" ", part)) for part in PurePosixPath(_without_suffix(members[0])).parts]
        if len(members) == 1 and not dated(members[0]):
            parts[-1] = snake(PurePosixPath(_without_suffix(members[0])).name)
        said.append([part for part in parts if part] or ["file"])
    often = Counter(parts[-1] for parts in said)
    return ["_".join(parts[-2:]) if often[parts[-1]] > 1 else parts[-1] for parts in said]


def _sample(
    name: str, pattern: str, members: list[str], look: Callable[[str, int], Sniffed], heads: int
) -> tuple[Found, Group | None]:
    """Read the first rows of some of a table's files, the oldest and the newest among them.

    Returns:
        The table, and its format if the reader has to be told.
    """
    from granary.readers.files.sniff import together

    step = max(1, -(-(len(members) - 1) // (FILES - 1)))
    chosen = [*members[:-1:step], members[-1]]
    limit = max(1, ROWS // len(chosen))
    seen, broken = looks(chosen, look, limit + 1)
    seen = aligned(seen)
    rows = [one.sample.num_rows for one in seen.values()]
    ended = {file: one for file, one in seen.items() if one.sample.num_rows <= limit}
    formats, said = agreed(seen)
    others = [member for member in members if member not in chosen]
    if heads and others and declared(formats, named=True) is not None:
        # What is declared must be so in files that were not opened, too.
        formats, said = agreed(seen | looks(others[:: max(1, len(others) // heads)], look, 1)[0])
    samples = [one.sample.slice(0, limit) for one in seen.values()]
    headers = Counter(header for sample in samples for header in sample.column_names)
    try:
        sample = together(samples)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        words = str(error).splitlines()[0]
        raise GranaryError(
            f"the files of {name} do not fit together: {words}", pattern, "look at them one by one"
        ) from None
    sample, formats = without_gap(sample, formats)
    table = Found(
        name=name,
        location=pattern,
        sample=sample,
        freshness=_freshness(members),
        text=text_of(next(iter(seen.values())).format),
        complete=len(chosen) == len(members) and max(rows) <= limit,
        whole=True,
        optional=frozenset(header for header, times in headers.items() if times < len(samples)).union(
            *(one.optional for one in seen.values())
        ),
        notes=(*broken, *said, *unread(seen), *refused(seen), *totals(ended)),
    )
    return table, declared(formats, named=_format_is_named(members))


def _format_is_named(members: Sequence[str]) -> bool:
    """Return whether the files' names tell their format, or that of their archive's members."""
    from granary.readers.files.formats import by_name

    found, packed = by_name(members[0])
    return found is not None or packed == "zip"


def _freshness(members: Sequence[str]) -> timedelta:
    """Return how long to wait for the next file: twice the widest gap between the dates that there are, and a day."""
    days = sorted({day for name in members if (day := dated(name))})
    if len(days) < 2:  # noqa: PLR2004
        return STATIC
    widest = max(later - earlier for earlier, later in pairwise(days))
    return 2 * widest + timedelta(days=1)


def opening(name: str, folder: str, entries: Sequence[Group]) -> Opening:
    """Return how the source's module opens its reader."""
    setting = f"GRANARY_{name.upper()}_LANDING"
    classes = sorted({group.head.rpartition(": ")[2] for group in entries})
    options = ("options=FORMATS",) if entries else ()
    return Opening(
        imports=(
            f"from granary.readers.files import {', '.join(sorted([*classes, 'FileReader']))}",
            *(["from granary.readers.files.formats import Format"] if entries else []),
        ),
        expression=Group("FileReader", (f"settings[{literal(setting)}]", *options)),
        settings={setting: folder},
        formats=tuple(entries),
    )


def read_whole(path: Path) -> pa.Table:
    """Return a single file as a table in the types that it would be loaded in."""
    from granary.readers.files.sniff import sniff
    from granary.scaffold.reading import null_words_in, read

    found = sniff(str(path.absolute()), limit=10**9)
    text = text_of(found.format)
    columns = read(found.sample, text, known=null_words_in(found.sample, text))
    return pa.Table.from_arrays([column.values for column in columns], names=found.sample.column_names)


def text_of(name: str) -> Text:
    """Return of which text in files of a format the types are to be found."""
    return "all" if name in ("csv", "excel", "xml") else "times" if name in ("json", "jsonl") else "none"
