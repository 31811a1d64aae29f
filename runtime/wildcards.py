"""Files of alternatives: one a line, in a folder of .txt files. Knows no prompt."""

from __future__ import annotations

from pathlib import Path

from sd2rt.engine.errors import InvalidArgument

SHOWN_NAMES = 8


def read_lines(got: str, folder: Path, wildcard: str) -> list[str]:
    """Return the lines of a wildcard's file that count: those that are not blank and begin with no #.

    Raises InvalidArgument that begins with `got`.
    """
    path = folder / f"{wildcard}.txt"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        names = sorted(str(found.relative_to(folder).with_suffix("")) for found in folder.rglob("*.txt"))
        shown = ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
        raise InvalidArgument(f"{got}, but there is no {path}; expected one of {shown or 'none: the folder has no .txt files'}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InvalidArgument(f"{got}; {path} cannot be read: {reason}") from None
    kept = [line for line in lines if line and not line.startswith("#")]
    if not kept:
        raise InvalidArgument(f"{got}; {path} has no lines; write one alternative on each")
    return kept
