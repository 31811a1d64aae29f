"""The configuration file: TOML read strictly, so that a mistyped key is told with its line and what was meant, and never passed over."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sd2rt.cli.settings import PER_CALL, Setting, commands, convert, key_of, settable, takers, top_keys
from sd2rt.engine.errors import InvalidArgument

LARGEST_BYTES = 1 << 20
TYPES: Mapping[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: 'a text in quotes, such as "auto"',
    list: "a list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The file's path and text, to say where something stands."""

    path: Path
    text: str

    def at(self, table: str, key: str) -> str:
        """Return "FILE, line 7: key" of a key in a table ("" is the top), without the line where it is written in an odd way."""
        current = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            header = re.fullmatch(r"\s*\[\s*([^\]]+?)\s*\]\s*(#.*)?", line)
            current = header[1].replace('"', "").replace(" ", "") if header else current
            if (header and current == f"{table}.{key}".lstrip(".")) or (
                current == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line)
            ):
                return f"{self.path}, line {number}: {key}"
        return f"{self.path}: {key}"


def read_file(root: click.Group, path: Path) -> list[Setting]:
    """Return what a file sets, the top before the commands' tables. Raises InvalidArgument."""
    source, content = _parse(path)
    known = dict(commands(root))
    tables = dict(_tables(content))
    top = {key: value for key, value in content.items() if not isinstance(value, dict)}
    found = list(_top(root, source, top))
    for table, values in tables.items():
        if table in known:
            found += _table(source, table, known[table], values)
        elif table in root.commands:
            _only_tables(source, table, values)
        else:
            raise InvalidArgument(f"{source.at('', table)}: no such command of sd2rt{_meant(table, known)}")
    return found


def _parse(path: Path) -> tuple[Source, dict[str, Any]]:
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
        text = content.decode()
        if len(content) > LARGEST_BYTES:
            raise InvalidArgument(f"{path}: larger than {LARGEST_BYTES >> 20} MiB; expected a configuration file (`sd2rt config init`)")
        return Source(path=path, text=text), tomllib.loads(text)
    except OSError as error:
        raise InvalidArgument(
            f"{path} cannot be read ({error.strerror}); write one with `sd2rt config init`, or unset SD2RT_CONFIG"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{path} is no TOML: {error}; `sd2rt config init` writes an example") from None


def _tables(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every table with its values that are no tables; names joined by dots."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield prefix + name, {key: inner for key, inner in value.items() if not isinstance(inner, dict)}
            yield from _tables(value, f"{prefix}{name}.")


def _top(root: click.Group, source: Source, values: Mapping[str, Any]) -> Iterator[Setting]:
    keys = top_keys(root)
    for key, value in values.items():
        where = source.at("", key)
        if key in PER_CALL:
            raise InvalidArgument(f"{where}: --{key} belongs to one call and is no setting; give it on the command line")
        if key not in keys:
            raise InvalidArgument(f"{where}: no such option of the commands that paint{_meant(key, keys)}")
        for command, option in takers(root, key):
            yield _setting("", command, option, value, where)


def _table(source: Source, table: str, command: click.Command, values: Mapping[str, Any]) -> Iterator[Setting]:
    options = settable(command)
    for key, value in values.items():
        where = source.at(table, key)
        if key in PER_CALL:
            raise InvalidArgument(f"{where}: --{key} belongs to one call and is no setting; give it on the command line")
        if key not in options:
            raise InvalidArgument(f"{where}: no such option of {table.replace('.', ' ')} that can be set{_meant(key, options)}")
        yield _setting(table, table, options[key], value, where)


def _only_tables(source: Source, table: str, values: Mapping[str, Any]) -> None:
    """Raise InvalidArgument where a group of commands, which has no options, has some here."""
    for key in values:
        raise InvalidArgument(f"{source.at(table, key)}: {table} is a group of commands; expected a table of one, such as [{table}.list]")


def _setting(table: str, command: str, option: click.Option, value: Any, where: str) -> Setting:
    """Return a value of a table as the default of a command's option. Raises InvalidArgument for one of another type."""
    key = key_of(option)
    expected = _type(option)
    fits = type(value) is expected or (expected is float and type(value) is int)
    if not fits:
        raise InvalidArgument(f"{where}: got {str(value)[:80]}; expected {TYPES[expected]}")
    place = where.removesuffix(f": {key}")
    taken = convert(option, value, where)
    return Setting(command=command, parameter=str(option.name), key=key, value=taken, given=value, source=place, table=table)


def _type(option: click.Option) -> type:
    """Return the type that a value has in the file."""
    if option.multiple:
        return list
    if isinstance(option.type, click.types.BoolParamType):
        return bool
    if isinstance(option.type, click.types.IntParamType):
        return int
    return float if isinstance(option.type, click.types.FloatParamType) else str


def _meant(word: str, known: Iterable[str]) -> str:
    """Return a hint at the name that is nearest, or where names are listed."""
    near = difflib.get_close_matches(word.replace("_", "-"), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else "; `sd2rt config init` writes an example"
