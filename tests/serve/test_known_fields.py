"""Bodies with unknown fields."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from sd2rt.serve.job_request import JobRequest
from sd2rt.serve.known_fields import MOST_UNKNOWN, KnownFields
from sd2rt.serve.openai_bodies import Generation, Variation


class Aliased(KnownFields):
    plain: int = 0
    other: int = Field(default=0, alias="other[]")


@pytest.mark.parametrize("body", [JobRequest, Generation, Variation])
def test_many_unknown_fields_are_refused_at_once(body: type[BaseModel]) -> None:
    given: dict[str, Any] = {f"field-{number}": number for number in range(200_000)}
    given |= {"prompt": "x"}
    began = time.thread_time()
    with pytest.raises(ValidationError) as refused:
        body.model_validate(given)
    found = refused.value.errors()
    assert time.thread_time() - began < 0.3
    assert MOST_UNKNOWN <= len(found) <= MOST_UNKNOWN + 2
    assert ("prompt",) not in [mistake["loc"] for mistake in found if mistake["type"] == "missing"]


def test_fields_are_known_by_their_alias() -> None:
    many = {f"field-{number}": number for number in range(100)}
    with pytest.raises(ValidationError) as refused:
        Aliased.model_validate(many | {"plain": 1, "other[]": 2})
    assert {str(mistake["loc"][0]) for mistake in refused.value.errors()} == {f"field-{number}" for number in range(MOST_UNKNOWN)}
    assert Aliased.model_validate({"other[]": 2}).other == 2
