"""Typed access to a JSON document that someone else wrote: every error names the file, the field, what it holds and what it must hold.

Owns parsing and types; knows nothing of what the fields mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from sd2rt.engine.errors import BundleError


@dataclass(frozen=True, slots=True)
class Document:
    """One JSON object and where it stands: `where` is the file's path with the field's path behind it."""

    fields: Mapping[str, object]
    where: str

    @classmethod
    def parse(cls, content: bytes, where: str) -> Document:
        """Parse UTF-8 JSON whose top is an object. Raises BundleError when it is damaged."""
        try:
            fields = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{where} is damaged ({error}): export the model again") from None
        if not isinstance(fields, dict):
            raise BundleError(f"{where} is damaged (expected a JSON object, got {type(fields).__name__}): export the model again")
        return cls(fields, where)

    def text(self, key: str, choices: tuple[str, ...] = ()) -> str:
        """Return a non-empty string, one of `choices` where there are any."""
        value = self.fields.get(key)
        if not isinstance(value, str) or not value or (choices and value not in choices):
            self._fail(key, f"one of {', '.join(choices)}" if choices else "a non-empty string")
        return value

    def integer(self, key: str, minimum: int) -> int:
        """Return an integer of at least `minimum`."""
        value = self.fields.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            self._fail(key, f"an integer of at least {minimum}")
        return value

    def number(self, key: str, *, above: float = -math.inf) -> float:
        """Return a finite number greater than `above`."""
        value = self.fields.get(key)
        expected = "a finite number" if above == -math.inf else f"a finite number above {above:g}"
        if not isinstance(value, int | float) or isinstance(value, bool):
            self._fail(key, expected)
        try:
            number = float(value)
        except OverflowError:
            self._fail(key, expected)
        if not math.isfinite(number) or number <= above:
            self._fail(key, expected)
        return number

    def items(self, key: str) -> list[object]:
        """Return a list."""
        value = self.fields.get(key)
        if not isinstance(value, list):
            self._fail(key, "a list")
        return value

    def child(self, key: str) -> Document:
        """Return the object under `key`."""
        value = self.fields.get(key)
        if not isinstance(value, dict):
            self._fail(key, "an object")
        return Document(value, f"{self.where}: {key}")

    def children(self, key: str) -> Iterator[Document]:
        """Yield the objects of the list under `key`."""
        for index, value in enumerate(self.items(key)):
            if not isinstance(value, dict):
                self._fail(key, "a list of objects")
            yield Document(value, f"{self.where}: {key}[{index}]")

    def _fail(self, key: str, expected: str) -> NoReturn:
        got = json.dumps(self.fields[key])[:80] if key in self.fields else "nothing"
        raise BundleError(f"{self.where}: {key}: got {got}, expected {expected}; the bundle is damaged or not made by `sd2rt export`")
