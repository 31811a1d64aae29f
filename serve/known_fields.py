"""Bodies whose unknown fields are refused, and quickly so, however many there are."""

from __future__ import annotations

from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

MOST_UNKNOWN = 8  # are looked at; fewer are told


class KnownFields(BaseModel):
    """A body without any other fields than its own."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def leave_out(cls, value: Any) -> Any:
        """Leave of many unknown fields the first ones, which are enough to refuse it: each is an error that takes its time."""
        if not isinstance(value, dict) or len(value) <= len(cls.model_fields) + MOST_UNKNOWN:
            return value
        names = {field.alias or name for name, field in cls.model_fields.items()}
        kept = {*names, *islice((name for name in value if name not in names), MOST_UNKNOWN)}
        return {name: given for name, given in value.items() if name in kept}
