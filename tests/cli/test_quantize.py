"""`sd2rt quantize`, on the embedded model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sd2rt.cli import int8_bundle
from sd2rt.cli.quantize import draw_prompts
from sd2rt.engine.accuracy import Gate
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.toyworld.captions import is_held_out, parse_caption
from tests.cli.conftest import MODEL, Command

QUICK = ("--samples", "1", "--steps", "2")


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, dict[str, Any], str]:
    """The embedded model in int8, what the command printed as JSON, and what it said."""
    import contextlib
    import io

    from sd2rt.cli.main import main

    folder = tmp_path_factory.mktemp("int8") / "bundle"
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setenv("SD2RT_CACHE", str(cache))
        assert main(["quantize", MODEL, "--out", str(folder), *QUICK, "--json"]) == 0
    return folder, json.loads(out.getvalue()), err.getvalue()


def test_the_unet_is_half_as_large_and_what_was_done_is_noted(quantized: tuple[Path, dict[str, Any], str]) -> None:
    folder, found, said = quantized
    assert found["bytes"] < 0.62 * found["bytes_before"]
    assert found["psnr_db"] > 30
    assert found["layers"] + len(found["kept_float"]) == 164
    assert all(snr < 32 for snr in found["kept_float"].values())
    assert f"unet: {found['layers']} layers in int8" in said.splitlines()[-1]
    unet = json.loads((folder / "bundle.json").read_text())["components"]["unet"]
    assert unet["int8"] == {name: found[name] for name in unet["int8"]}
    assert (unet["int8"]["pictures"], unet["int8"]["steps"]) == (1, 2)
    assert (unet["comparison"]["psnr_db"], unet["comparison"]["gate"]) == (found["psnr_db"], "PSNR >= 30 dB")
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_it_is_a_bundle_like_any_other(quantized: tuple[Path, dict[str, Any], str], sd2rt: Command) -> None:
    folder = str(quantized[0])
    model = json.loads(sd2rt("info", folder, "--json").out)
    assert (model["name"], model["components"]["unet"]["int8"], model["components"]["vae_decoder"]["int8"]) == (
        "toyworld-int8",
        True,
        False,
    )
    assert "unet            int8" in sd2rt("info", folder).out
    painted = sd2rt("generate", "a large red sphere", "--model", folder, "--target", "cpu", "--steps", "2", "--out", "red.png")
    assert (painted.code, Path("red.png").is_file()) == (0, True), painted.err
    verified = sd2rt("verify", folder, "--target", "cpu")
    assert verified.code == 0, verified.out
    assert "PSNR >= 30 dB  ok" in next(line for line in verified.out.splitlines() if line.startswith("unet"))


def test_a_bundle_in_int8_is_refused(quantized: tuple[Path, dict[str, Any], str], sd2rt: Command) -> None:
    refused = sd2rt("quantize", str(quantized[0]), "--out", "again")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "its unet is in int8 already" in refused.err


def test_too_much_asked_of_the_layers_leaves_nothing_behind(sd2rt: Command, tmp_path: Path) -> None:
    refused = sd2rt("quantize", MODEL, "--out", "bundle", *QUICK, "--min-snr", "90", "--quiet")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "expected 90: lower --min-snr" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_a_unet_that_differs_too_much_is_not_written(sd2rt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_bundle, "INT8", Gate(psnr_db=90))
    refused = sd2rt("quantize", MODEL, "--out", "bundle", *QUICK, "--quiet")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "in int8; expected PSNR >= 90 dB: raise --min-snr above 32" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_before_any_work(sd2rt: Command, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "file").touch()
    refused = sd2rt("quantize", MODEL, "--out", "bundle")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("place", [".", "sd21", "sd21/int8", "link", "sd21/unet/.."])
def test_the_bundle_itself_is_never_replaced(place: str, sd2rt: Command, tmp_path: Path) -> None:
    """Nor a folder around it, nor one in it."""
    home = tmp_path / "models"
    shutil.copytree(find_model(MODEL), home / "sd21")
    (home / "bundle.json").touch()
    (home / "link").symlink_to(home / "sd21")
    before = sorted(home.rglob("*"))
    refused = sd2rt("quantize", str(home / "link"), "--out", str(home / place), "--force", *QUICK)
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert "expected a folder apart from that of the bundle itself" in refused.err
    assert sorted(home.rglob("*")) == before


def test_the_embedded_model_is_never_replaced(sd2rt: Command) -> None:
    folder = read_bundle(find_model(MODEL)).folder
    refused = sd2rt("quantize", MODEL, "--out", str(folder), "--force", *QUICK)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "expected a folder apart from" in refused.err


def test_a_model_of_another_task_is_refused_before_any_work(sd2rt: Command, tmp_path: Path) -> None:
    refused = sd2rt("quantize", "toyworld-inpainting", "--out", "bundle", *QUICK)
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert "got a model for inpainting; expected one for text-to-image" in refused.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"one\n\n  \n", "has 1; expected 2, one more than --samples")],
    ids=["missing", "no text", "too few"],
)
def test_prompts_that_do_not_serve_are_refused(content: bytes | None, problem: str, sd2rt: Command, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "prompts.txt").write_bytes(content)
    refused = sd2rt("quantize", MODEL, "--out", "bundle", "--prompts", "prompts.txt", *QUICK)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert problem in refused.err


def test_prompts_of_ones_own_are_painted(sd2rt: Command, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red cube\n\na blue cone\nnever\n")
    done = sd2rt("quantize", MODEL, "--out", "bundle", "--prompts", "prompts.txt", *QUICK)
    assert (done.code, done.out) == (0, "bundle\n"), done.err
    assert [line for line in done.err.splitlines() if line.startswith("painting")] == [
        "painting 1 of 2: a red cube",
        "painting 2 of 2: a blue cone",
    ]


def test_toyworld_is_measured_with_its_own_captions_and_others_with_ours() -> None:
    captions = draw_prompts("toyworld", 9)
    assert len(set(captions)) == 9
    assert not any(is_held_out(caption) for caption in captions)
    assert all(parse_caption(caption).solids for caption in captions)
    ours = draw_prompts("sd2-base", 40)
    assert (len(ours), len(set(ours))) == (40, 16)


@pytest.mark.parametrize("count", [2, 9, 16, 17, 40])
@pytest.mark.parametrize("model", ["toyworld", "sd2-base"])
def test_the_comparison_has_a_prompt_of_its_own(model: str, count: int) -> None:
    *measured, compared = draw_prompts(model, count)
    assert len(measured) == count - 1
    assert compared not in measured


def test_a_missing_library_is_named_with_what_to_install(tmp_path: Path) -> None:
    block = "import sys; sys.modules['onnx_ir'] = None"
    code = f"{block}; from sd2rt.cli.main import main; sys.exit(main(['quantize', 'toyworld', '--out', 'bundle']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "sd2rt: quantizing needs onnx_ir: pip install 'sd2rt[cpu]'\n")
    assert list(tmp_path.iterdir()) == []
