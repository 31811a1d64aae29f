"""A number of bytes as people write it: 8GB, 512 MB, 4GiB."""

from __future__ import annotations

import re

import click

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
WRITTEN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([KMGT]I?)?B?", re.IGNORECASE)


class ByteSize(click.ParamType[int]):
    """An option's value in bytes."""

    name = "size"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> int:
        """Read a size; a number alone is bytes."""
        if isinstance(value, int):
            return value
        found = WRITTEN.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{str(value)[:40]!r} is no size such as 8GB", parameter, context)
        return int(float(found[1]) * UNITS[(found[2] or "").upper()])
