"""Files that say what to paint, one row after the other: text, CSV and JSON lines. What the options of a row mean is for `row_options`."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument

MAX_BYTES = 64 << 20
MAX_ROWS = 100_000
SUFFIXES = {".txt": "txt", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one row says, by the names it uses; `line` is where it begins, from 1."""

    line: int
    said: Mapping[str, object]


def read_rows(file: str, kind: str | None) -> list[Row]:
    """Read a file, "-" being stdin, of a kind: txt, csv or jsonl; None: as its suffix says, and of stdin what it looks like.

    Raises InvalidArgument for what cannot be read, with the line, and for none or more than MAX_ROWS rows.
    """
    text = _decode(file, _read(file))
    chosen = kind or SUFFIXES.get(Path(file).suffix.lower())
    if chosen is None and file == STDIN:
        chosen = "jsonl" if text.lstrip()[:1] == "{" else "txt"
    if chosen is None:
        raise InvalidArgument(f"FILE: got {file}; expected a name that ends in one of {', '.join(SUFFIXES)}, or --rows txt, csv or jsonl")
    rows: list[Row] = []
    for row in READERS[chosen](text):
        rows.append(row)
        if len(rows) > MAX_ROWS:
            raise InvalidArgument(f"FILE: {file} has more than {MAX_ROWS:,} rows; make several files of it")
    if not rows:
        raise InvalidArgument(f"FILE: {file} has no rows; expected at least one")
    return rows


def _read(file: str) -> bytes:
    try:
        if file == STDIN:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(file, "rb") as stream:
                content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"FILE: cannot read {file} ({error.strerror}); expected a text, CSV or JSON lines file") from None
    if len(content) > MAX_BYTES:
        raise InvalidArgument(f"FILE: {file} has more than {MAX_BYTES >> 20} MiB; make several files of it")
    return content


def _decode(file: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidArgument(f"FILE: {file}, line {line}: no UTF-8 ({error.reason}); save it as UTF-8") from None


def read_text(text: str) -> Iterator[Row]:
    """Yield the rows of a text: a prompt a line, or options as the web UI has them: `--prompt a red cube --steps 20`.

    Empty lines and those that begin with # are none.
    """
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield Row(line=number, said=read_options(stripped, number) if stripped.startswith("--") else {"prompt": stripped})


def read_options(line: str, number: int) -> dict[str, object]:
    """Read `--name words --other words`; words of one option need no quotes. Raises InvalidArgument."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidArgument(f"line {number}: {error} in {line[:80]!r}; expected --name value, quotes closed") from None
    said: dict[str, object] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in said:
                raise InvalidArgument(f"line {number}: --{name}: got it a second time; say it once")
            said[name] = value if equals else True
        else:
            said[name] = word if said[name] is True else f"{said[name]} {word}"
    return said


def read_csv(text: str) -> Iterator[Row]:
    """Yield the rows below a header of options' names. Raises InvalidArgument."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_header(header)
            elif any(cells):
                if len(cells) != len(header):
                    raise InvalidArgument(
                        f"line {line}: got {len(cells)} cells; expected {len(header)}, one for each of {', '.join(header)}"
                    )
                yield Row(line=line, said=dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidArgument(f"line {line}: {error}; expected CSV with commas, and quotes around cells that have some") from None


def _check_header(header: list[str]) -> None:
    if "" in header or len(set(header)) < len(header):
        raise InvalidArgument(f"line 1: got {', '.join(header)!r}; expected a name for every column, each once, such as prompt,seed,steps")


def read_json_lines(text: str) -> Iterator[Row]:
    """Yield the objects, one a line. Raises InvalidArgument."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"line {number}: no JSON ({error}); expected an object such as {EXAMPLE}") from None
        if not isinstance(said, dict):
            raise InvalidArgument(f"line {number}: got {line.strip()[:80]}; expected an object such as {EXAMPLE}")
        yield Row(line=number, said=said)


EXAMPLE = '{"prompt": "a red cube", "seed": 7}'
READERS: Mapping[str, Callable[[str], Iterator[Row]]] = {"txt": read_text, "csv": read_csv, "jsonl": read_json_lines}
