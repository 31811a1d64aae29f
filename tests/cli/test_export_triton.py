"""`sd2rt export-triton`: whole or not at all."""

import json
from pathlib import Path

from tests.cli.conftest import Command


def test_a_repository_is_written_once(sd2rt: Command) -> None:
    done = sd2rt("export-triton", "toyworld", "--out", "triton", "--prefix", "toy-", "--max-batch", "4", "--json")
    assert done.code == 0, done.err
    names = ["toy-text_encoder", "toy-unet", "toy-vae_decoder", "toy-vae_encoder", "toy-tiny_vae_decoder"]
    assert json.loads(done.out) == {"repository": "triton", "target": "onnx", "models": names}
    assert "max_batch_size: 4" in Path("triton/toy-unet/config.pbtxt").read_text()


def test_nothing_is_replaced_and_no_option_offered_for_it(sd2rt: Command, tmp_path: Path) -> None:
    for name, file in (("repository", "README.md"), ("bundle", "bundle.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
        refused = sd2rt("export-triton", "toyworld", "--out", name)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.endswith(f"out: {name} is not empty; name a new folder\n")
        assert [found.name for found in (tmp_path / name).iterdir()] == [file]


def test_nothing_stays_of_what_cannot_be_written(sd2rt: Command, tmp_path: Path) -> None:
    for arguments, code, words in (
        (("--target", "tensorrt"), 1, "target tensorrt"),
        (("--target", "openvino"), 2, "target: got 'openvino'"),
        (("--size", "64x64"), 2, "size: got one for --target onnx"),
        (("--max-batch", "0"), 2, "max-batch: got 0"),
    ):
        found = sd2rt("export-triton", "toyworld", "--out", "triton", *arguments)
        assert (found.code, found.out, found.err.count("\n")) == (code, "", 1), found.err
        assert words in found.err
        assert list(tmp_path.iterdir()) == []
