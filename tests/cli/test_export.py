"""`sd2rt export`: a small checkpoint to a bundle that the other verbs take."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command

pytest.importorskip("torch", reason="needs the export extra")

from tests.tiny import shared_folder, tiny_pipeline
from tests.traced import traced_once

pytestmark = pytest.mark.torch


def test_export_then_info_then_generate(sd2rt: Command) -> None:
    tiny_pipeline("epsilon", folder=Path("checkpoint"))
    with traced_once(shared_folder()):
        exported = sd2rt("export", "checkpoint", "--out", "bundle", "--name", "small", "--dtype", "fp32", "--json")
    assert (exported.code, json.loads(exported.out)) == (0, {"bundle": "bundle"}), exported.err
    assert [line.split(":")[0] for line in exported.err.splitlines()] == ["text_encoder", "unet", "vae_decoder", "vae_encoder"]

    again = sd2rt("export", "checkpoint", "--out", "bundle")
    assert (again.code, again.out, again.err.count("\n")) == (2, "", 1)
    assert "bundle" in again.err

    found = json.loads(sd2rt("info", "bundle", "--json").out)
    assert (found["name"], found["components"]["unet"]["dtype"]) == ("small", "float32")

    painted = sd2rt("generate", "a red cube", "--model", "bundle", "--steps", "1", "--seed", "0", "--out", "red.png")
    assert (painted.code, painted.out) == (0, "red.png\n")
    assert Path("red.png").read_bytes().startswith(b"\x89PNG")


def test_a_pickle_is_refused_in_one_line(sd2rt: Command, tmp_path: Path) -> None:
    Path("model.ckpt").write_bytes(b"\x80\x02")
    found = sd2rt("export", "model.ckpt", "--out", "bundle")
    assert (found.code, found.out, found.err.count("\n")) == (1, "", 1)
    assert ".safetensors" in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_loras_are_passed_on(sd2rt: Command) -> None:
    """The first wrong thing is named, before any work: a scale, then a file of another model."""
    tiny_pipeline("epsilon", folder=Path("checkpoint"))
    wrong = sd2rt("export", "checkpoint", "--out", "bundle", "--lora", "style.safetensors:much")
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)
    assert "'much'" in wrong.err
    gone = sd2rt("export", "checkpoint", "--out", "bundle", "--lora", "style.safetensors:0.5", "--lora", "other.safetensors")
    assert (gone.code, gone.out, gone.err.count("\n")) == (1, "", 1)
    assert "no LoRA file style.safetensors" in gone.err
    assert not Path("bundle").exists()


def test_a_tiny_vae_is_passed_on(sd2rt: Command) -> None:
    """It is read before any work, and named when it is no such file."""
    tiny_pipeline("epsilon", folder=Path("checkpoint"))
    found = sd2rt("export", "checkpoint", "--out", "bundle", "--tiny-vae", "taesd_decoder.safetensors")
    assert (found.code, found.out, found.err.count("\n")) == (1, "", 1)
    assert "cannot read taesd_decoder.safetensors" in found.err
    assert not Path("bundle").exists()
