"""Tokens from a file that nobody else can read, and from the environment."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument

VARIABLE = "SD2RT_TOKEN"
NAMED = re.compile(r"([A-Za-z0-9._-]{1,40}):(.+)")
MOST_BYTES = 1_000_000
Tokens = tuple[tuple[str, str], ...]
"""Names, which own jobs, and secrets."""


def read_tokens(path: Path | None, environment: Mapping[str, str] = os.environ) -> Tokens:
    """Return all tokens: of a file, and the environment's, whose name is "token". Raises InvalidArgument; no message holds a secret."""
    found = [] if path is None else _read_file(path)
    if environment.get(VARIABLE):
        found.append(("token", environment[VARIABLE]))
    secrets = [secret for _, secret in found]
    if len(set(secrets)) < len(secrets):
        raise InvalidArgument("tokens: got one secret twice; expected each to be one owner's alone")
    return tuple(found)


def _read_file(path: Path) -> list[tuple[str, str]]:
    """Read lines `name:secret`, or a secret alone, which is named after its line. Empty lines and those after # are skipped."""
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise InvalidArgument(f"--token-file: {path} can be read by others (mode {mode & 0o777:o}); expected 600: chmod 600 {path}")
            lines = stream.read(MOST_BYTES).decode().splitlines()
    except OSError as error:
        raise InvalidArgument(f"--token-file: {path} cannot be read ({error.strerror}); expected lines of name:secret") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"--token-file: {path} is no text; expected lines of name:secret") from None
    tokens = [
        _read_line(line.strip(), number) for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")
    ]
    if not tokens:
        raise InvalidArgument(f"--token-file: {path} holds no token; expected lines of name:secret")
    return tokens


def _read_line(line: str, number: int) -> tuple[str, str]:
    named = NAMED.fullmatch(line)
    return (named[1], named[2].strip()) if named else (f"line-{number}", line)
