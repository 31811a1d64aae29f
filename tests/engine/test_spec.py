from pathlib import Path

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.spec import BuildOptions, ComponentFiles, TensorRTOptions, TensorSpec


def test_options_refuse_threads_below_zero() -> None:
    with pytest.raises(InvalidArgument, match="threads: got -1"):
        BuildOptions(target="cpu", threads=-1)


def test_every_file_needs_a_hash() -> None:
    with pytest.raises(InvalidArgument, match=r"unet: got no sha256 for model\.onnx\.data"):
        ComponentFiles(name="unet", onnx=Path("model.onnx"), data=(Path("model.onnx.data"),), sha256={"model.onnx": "0" * 64})


@pytest.mark.parametrize("sizes", [(2, 1, 3), (1, 3, 2), (0, 1, 1)])
def test_axes_must_be_in_order(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidArgument, match="axis height: got smallest, usual, largest"):
        BuildOptions(target="tensorrt", axes={"height": sizes})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimization_level": 6}, "optimization level: got 6; expected 0"),
        ({"workspace_bytes": 0}, "workspace: got 0 bytes"),
        ({"compute_capabilities": ("portable", "sm89")}, "compute capability: got portable, sm89; expected portable alone"),
    ],
)
def test_tensorrt_options_refuse_what_makes_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        TensorRTOptions(**values)  # type: ignore[arg-type]


def test_axes_become_numbers() -> None:
    spec = TensorSpec(name="sample", dtype="float16", shape=("batch", 4, "height", "width"))
    assert spec.resolve({"batch": 2, "height": 8, "width": 16}) == (2, 4, 8, 16)
    with pytest.raises(InvalidArgument, match="sample: got no size of axis 'batch'; expected one of height"):
        spec.resolve({"height": 8})
