from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.spec import BuildOptions, ComponentFiles


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 64)}, r"size: got \(0, 64\)"),
        ({"batch": 0}, "batch: got 0"),
        ({"threads": -1}, "threads: got -1"),
    ],
)
def test_options_refuse_numbers_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        BuildOptions(target="cpu", **fields)


def test_every_file_needs_a_hash() -> None:
    with pytest.raises(InvalidArgument, match=r"unet: got no sha256 for model\.onnx\.data"):
        ComponentFiles(name="unet", onnx=Path("model.onnx"), data=(Path("model.onnx.data"),), sha256={"model.onnx": "0" * 64})
