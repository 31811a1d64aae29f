"""`sd2rt generate` on the embedded model, start to end."""

import json
import signal
from pathlib import Path

import pytest
from PIL import Image

from sd2rt.cli import generate, save, upscale
from sd2rt.engine.errors import EngineError, TargetUnavailable
from sd2rt.runtime import engine_plan
from sd2rt.runtime.bundle import Bundle
from tests.cli.conftest import MODEL, Command, start, wait_for

HEAVY = "torch diffusers transformers onnx onnx_ir onnxscript scipy rich tqdm filelock tensorrt openvino"


def test_first_use_builds_and_says_so_second_does_not(paint: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "fresh"))
    first, second = paint("a red cube", "--out", "a.png"), paint("a red cube", "--out", "b.png")
    assert (first.code, second.code) == (0, 0)
    assert (first.out, second.out) == ("a.png\n", "b.png\n")
    assert first.err.count("building the cpu engine") == 3
    assert "building" not in second.err
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_png_carries_its_parameters(paint: Command) -> None:
    assert paint("a red cube", "--negative", "a cone", "--guidance", "4", "--sampler", "DPM++ 2M Karras", "--out", "a.png").code == 0
    with Image.open("a.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        text, ours = image.info["parameters"], json.loads(image.info["sd2rt"])
    assert text.startswith("a red cube\nNegative prompt: a cone\nSteps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4, Seed: 7")
    assert (ours["prompt"], ours["seed"], ours["steps"], ours["sampler"], ours["sigmas"]) == ("a red cube", 7, 2, "dpm++ 2m", "karras")


def test_json_says_what_was_painted(paint: Command) -> None:
    found = paint("a red cube", "--json", "-n", "2", "--out", "pictures/red.png")
    result = json.loads(found.out)
    assert [(image["path"], image["seed"]) for image in result["images"]] == [("pictures/red-1.png", 7), ("pictures/red-2.png", 8)]
    assert all(Path(image["path"]).is_file() for image in result["images"])
    assert len(result["timings"]["steps"]) == 2
    assert Path("pictures/red-1.png").read_bytes() != Path("pictures/red-2.png").read_bytes()


def test_pictures_without_a_name_never_replace(paint: Command) -> None:
    assert [paint("a red cube").out, paint("a blue cube", "--force").out] == ["sd2rt-7.png\n", "sd2rt-7-2.png\n"]


def test_force_replaces_a_file(paint: Command) -> None:
    Path("a.png").write_bytes(b"before")
    assert paint("a red cube", "--out", "a.png", "--force").code == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_a_random_seed_is_told_and_repeats(sd2rt: Command) -> None:
    arguments = ("generate", "a red cube", "--model", MODEL, "--steps", "1", "--json")
    first, other = (json.loads(sd2rt(*arguments).out)["images"][0] for _ in range(2))
    assert first["seed"] != other["seed"]
    again = json.loads(sd2rt(*arguments, "--seed", str(first["seed"]), "--out", "again.png").out)["images"][0]
    assert Path(again["path"]).read_bytes() == Path(first["path"]).read_bytes()


def test_another_size(paint: Command) -> None:
    assert paint("a red cube", "--width", "96", "--height", "48", "--out", "a.png").code == 0
    with Image.open("a.png") as image:
        assert image.size == (96, 48)


def test_the_cut_end_of_a_long_prompt_is_told(paint: Command) -> None:
    found = paint("a red cube BREAK " * 64 + "one last thing", "--out", "a.png")
    assert found.code == 0
    assert "did not see the end" in found.err
    assert "one last thing" in found.err


def test_quiet(paint: Command) -> None:
    found = paint("a red cube", "--out", "a.png", "--quiet")
    assert (found.code, found.out, found.err) == (0, "a.png\n", "")


def test_paints_without_anything_heavy(paint: Command) -> None:
    assert paint("a red cube", "--out", "warm.png").code == 0  # builds the engines, which needs onnx
    process = start("generate", "a red cube", "--model", MODEL, "--seed", "7", "--steps", "2", "--out", "a.png", blocked=HEAVY)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "a.png\n"), err
    assert Path("a.png").read_bytes() == Path("warm.png").read_bytes()


def test_interrupted(paint: Command, tmp_path: Path) -> None:
    assert paint("a red cube", "--out", "warm.png").code == 0
    process = start("generate", "a red cube", "--model", MODEL, "--steps", "900", "--preview", "latent", "--out", "a.png")
    assert process.stderr is not None
    assert "900 steps" in process.stderr.readline()
    assert process.stderr.readline() == "what it is going to be: a-preview.png\n"
    wait_for(process, Path("a-preview.png").exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "\nsd2rt: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["warm.png"]


@pytest.mark.parametrize(("error", "code"), [(EngineError("the GPU is gone"), 1), (MemoryError(), 1), (KeyboardInterrupt(), 130)])
@pytest.mark.parametrize(
    ("out", "bases"), [("new/large.png", ["large-1-base.png", "large-2-base.png"]), ("new/", ["sd2rt-7-base.png", "sd2rt-8-base.png"])]
)
def test_what_was_painted_outlives_a_failure_to_upscale(
    error: BaseException, code: int, out: str, bases: list[str], paint: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(upscale, "run_job", fail)
    found = paint("a red cube", "-n", "2", "--upscale", "--out", out)
    assert (found.code, found.out) == (code, "")
    assert f"not upscaled; as first painted: new/{bases[0]}, new/{bases[1]}\n" in found.err
    assert sorted(path.name for path in Path("new").iterdir()) == bases
    assert paint("a red cube", "-n", "2", "--out", "alone.png").code == 0
    assert Path(f"new/{bases[1]}").read_bytes() == Path("alone-2.png").read_bytes()


def test_an_upscaled_picture_outlives_a_failure_to_write(paint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def take_the_name(console: object, plan: object, result: object) -> tuple[object, list[object]]:
        Path("a.png").write_bytes(b"before")
        return result, []

    monkeypatch.setattr(generate, "upscale_result", take_the_name)
    found = paint("a red cube", "--upscale", "--out", "a.png")
    assert (found.code, found.out) == (1, "a-2.png\n")
    assert "sd2rt: output file: got a.png: it exists" in found.err
    assert "painted and kept: a-2.png\n" in found.err
    assert Path("a.png").read_bytes() == b"before"
    with Image.open("a-2.png") as image:
        assert "Seed: 7" in image.info["parameters"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [(EngineError("the GPU is gone"), 1, "sd2rt: the GPU is gone"), (KeyboardInterrupt(), 130, "sd2rt: interrupted")],
)
def test_what_went_wrong_first_is_told_where_nothing_can_be_saved(
    error: BaseException, code: int, words: str, paint: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    def save_picture(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(upscale, "run_job", fail)
    monkeypatch.setattr(save, "save_picture", save_picture)
    found = paint("a red cube", "--upscale", "--out", "a.png")
    assert (found.code, found.out) == (code, "")
    assert "not upscaled, and what was first painted is lost: [Errno 28] No space left on device; the picture is lost, since" in found.err
    assert found.err.endswith(f"{words}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_upscaler_that_does_not_run_here_is_told_before_the_first_pass(paint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = engine_plan.choose_bundle_target

    def refuse_upscalers(bundle: Bundle, name: str) -> str:
        if bundle.task == "upscaling":
            raise TargetUnavailable("target cuda: toyworld-upscaler is in int8")
        return choose(bundle, name)

    monkeypatch.setattr(engine_plan, "choose_bundle_target", refuse_upscalers)
    found = paint("a red cube", "--upscale", "--out", "a.png")
    assert (found.code, found.err) == (1, "sd2rt: target cuda: toyworld-upscaler is in int8\n")


def test_the_tiny_decoder_is_asked_for_by_name(paint: Command) -> None:
    usual, tiny = (paint("a red cube", "--decoder", decoder, "--json", "--out", f"{decoder}.png") for decoder in ("vae", "tiny"))
    assert [json.loads(found.out)["images"][0]["decoder"] for found in (usual, tiny)] == ["vae", "tiny"]
    assert Path("vae.png").read_bytes() != Path("tiny.png").read_bytes()
    with Image.open("tiny.png") as image:
        assert "Decoder: tiny" in image.info["parameters"]
    wrong = paint("a red cube", "--decoder", "small")
    assert (wrong.code, wrong.err) == (2, "sd2rt: decoder: got 'small'; expected one of vae, tiny\n")
