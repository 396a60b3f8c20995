"""A Singer tap, a program by itself: what lies on a shelf, a JSON file of {stream: [rows]}.

`tap-shelf --config FILE [--catalog FILE] [--state FILE]`, or `--discover`. Configuration: `shelf`, the file; `key`, the
key of its rows; `every`, rows between two states; `script`, instead of all that, a file of lines that are printed as
they are, of which some are commands: `!exit CODE`, `!hang`, `!say TEXT` (to standard error), `!batch FILE`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

WRITTEN = {int: {"type": ["integer", "null"]}, float: {"type": ["number", "null"]}, bool: {"type": ["boolean", "null"]}}
TIME = {"type": ["string", "null"], "format": "date-time"}


def main():
    parser = argparse.ArgumentParser()
    for option in ("--config", "--catalog", "--state"):
        parser.add_argument(option, type=lambda name: json.loads(Path(name).read_text()))
    parser.add_argument("--discover", action="store_true")
    said = parser.parse_args()
    shelf = json.loads(Path(said.config["shelf"]).read_text()) if "shelf" in said.config else {"things": []}
    if said.discover:
        streams = [entry(name, rows, said.config) for name, rows in shelf.items()]
        print(json.dumps({"streams": streams}))
    elif "script" in said.config:
        play(Path(said.config["script"]).read_text())
    else:
        for one in said.catalog["streams"]:
            if one["selected"]:
                stream(one, shelf[one["tap_stream_id"]], said.state or {}, said.config)


def entry(name, rows, config):
    return {
        "tap_stream_id": name,
        "stream": name,
        "key_properties": config.get("key", ["id"]),
        "replication_key": config.get("cursor"),
        "schema": schema(rows),
        "metadata": [],
    }


def schema(rows):
    found = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                text = TIME if name.endswith("_at") else {"type": ["string", "null"]}
                nested = {"type": ["object", "array", "null"]}
                found[name] = WRITTEN.get(type(value), nested if isinstance(value, (dict, list)) else text)
    return {"type": "object", "properties": found}


def say(kind, **parts):
    sys.stdout.write(json.dumps({"type": kind, **parts}) + "\n")


def stream(one, rows, state, config):
    """Print the rows past the bookmark, those at it again, and a state now and then."""
    name, cursor = one["tap_stream_id"], config.get("cursor")
    marks = state.get("bookmarks", {})
    say("SCHEMA", stream=name, schema=one["schema"], key_properties=one["key_properties"])
    if cursor:
        mark = marks.get(name)
        rows = sorted((row for row in rows if mark is None or row[cursor] >= mark), key=lambda row: row[cursor])
    for number, row in enumerate(rows, 1):
        say("RECORD", stream=name, record=row, time_extracted="2026-01-01T00:00:00Z")
        if cursor and number % config.get("every", 100) == 0:
            say("STATE", value={"bookmarks": marks | {name: row[cursor]}})
    if cursor and rows:
        say("STATE", value={"bookmarks": marks | {name: rows[-1][cursor]}})
    sys.stdout.flush()


def play(script):
    for line in script.splitlines():
        command, _, rest = line.partition(" ")
        sys.stdout.flush()
        if command == "!exit":
            sys.exit(int(rest))
        elif command == "!hang":
            time.sleep(600)
        elif command == "!say":
            print(rest, file=sys.stderr, flush=True)
        else:
            print(line)


if __name__ == "__main__":
    main()
