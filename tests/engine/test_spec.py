from pathlib import Path

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.spec import BuildOptions, ComponentFiles


def test_options_refuse_threads_below_zero() -> None:
    with pytest.raises(InvalidArgument, match="threads: got -1"):
        BuildOptions(target="cpu", threads=-1)


def test_every_file_needs_a_hash() -> None:
    with pytest.raises(InvalidArgument, match=r"unet: got no sha256 for model\.onnx\.data"):
        ComponentFiles(name="unet", onnx=Path("model.onnx"), data=(Path("model.onnx.data"),), sha256={"model.onnx": "0" * 64})
