"""`sd2rt reproduce`: the same bytes for every task and option, and pictures of other programs."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sd2rt.engine.errors import TargetUnavailable
from sd2rt.runtime import engine_plan
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.runtime.parameters import Parameters, json_text
from tests.cli.conftest import MODEL, Command, assert_refused
from tests.runtime.records import PARAMETERS

QUICK = ("--steps", "2", "--seed", "7", "--quiet", "--target", "cpu")
SCENE, MASK = ("--image", "rgb.png"), ("--mask", "mask.png")


def assert_the_same_bytes(sd2rt: Command, first: str, *given: str) -> None:
    """Paint a file again, under another name of its kind, and compare."""
    again = f"again{Path(first).suffix}"
    found = sd2rt("reproduce", first, *given, "--out", again)
    assert (found.code, found.out) == (0, f"{again}\n"), found.err
    assert "note" not in found.err
    assert Path(again).read_bytes() == Path(first).read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--rng", "nv", "--sampler", "euler a"),
        ("--variation-seed", "3", "--variation-strength", "0.3", "--rng", "nv"),
        ("--sampler", "dpm++ 2m karras", "--guidance", "3.3", "--guidance-rescale", "0.7", "--negative", "a cone"),
        ("--guidance-interval", "0.2,0.8", "--guidance-reuse", "2", "--deep-cache", "2", "--steps", "4"),
        ("--width", "96", "--height", "48", "--decoder", "tiny", "--tile", "64"),
        ("--clip-skip", "2", "--no-weighting"),
    ],
)
def test_words(sd2rt: Command, options: tuple[str, ...]) -> None:
    assert sd2rt("generate", 'a (red:1.3) cube,\nSteps: 3, "x": [y]', "--model", MODEL, *QUICK, *options, "--out", "a.png").code == 0
    assert_the_same_bytes(sd2rt, "a.png")


@pytest.mark.parametrize("kind", [("a.jpg",), ("a.webp", "--quality", "55")])
def test_formats(sd2rt: Command, kind: tuple[str, ...]) -> None:
    assert sd2rt("generate", "a red cube", "--model", MODEL, *QUICK, "--out", *kind).code == 0
    assert_the_same_bytes(sd2rt, "a" + Path(kind[0]).suffix)


def test_braces_and_escapes_are_text(sd2rt: Command) -> None:
    prompt = "a {red|blue} cube, \\{x\\}, __y__"
    assert sd2rt("generate", prompt, "--alternatives", "off", "--model", MODEL, *QUICK, "--out", "a.png").code == 0
    assert_the_same_bytes(sd2rt, "a.png")


def test_one_of_many(sd2rt: Command) -> None:
    assert sd2rt("generate", "a {red|blue} cube", "-n", "2", "--model", MODEL, *QUICK, "--out", "a.png").code == 0
    for number in (1, 4):
        assert_the_same_bytes(sd2rt, f"a-{number}.png")
        Path("again.png").unlink()


@pytest.mark.parametrize(
    ("verb", "given", "more"),
    [
        ("img2img", SCENE, ("--strength", "0.6")),
        ("img2img", ("--image", "odd.png"), ()),
        ("inpaint", (*SCENE, *MASK), ("--model", "toyworld", "--rng", "nv")),
        ("inpaint", (*SCENE, *MASK), ("--paste", "--invert", "--mask-blur", "3")),
        ("inpaint", ("--image", "odd.png", *MASK), ("--paste",)),
        ("inpaint", ("--image", "half.png", *MASK), ("--paste", "--width", "64")),
        ("inpaint", SCENE, ("--expand", "5,0,8,3", "--model", "toyworld")),
        ("inpaint", (*SCENE, *MASK), ("--expand", "8,0,0,0")),
        ("depth2img", (*SCENE, "--depth", "mask.png"), ()),
        ("upscale", SCENE, ("--noise-level", "30")),
    ],
)
def test_pictures_of_pictures(sd2rt: Command, pictures: list[str], verb: str, given: tuple[str, ...], more: tuple[str, ...]) -> None:
    Image.open("rgb.png").resize((61, 43)).save("odd.png")
    Image.open("rgb.png").resize((64, 43)).save("half.png")
    found = sd2rt(verb, "a red cube", *given, *more, *QUICK, "--out", "a.png")
    assert found.code == 0, found.err
    assert_the_same_bytes(sd2rt, "a.png", *given)


def test_what_was_upscaled_is_upscaled_again(sd2rt: Command) -> None:
    options = ("--upscale", "--rng", "nv", "--negative", "a cone", "-n", "2")
    assert sd2rt("generate", "a red cube", "--model", MODEL, *QUICK, *options, "--out", "a.png").code == 0
    assert_the_same_bytes(sd2rt, "a-2.png")
    with Image.open("again.png") as image:
        assert image.size == (256, 256)


def test_the_name_and_kind_of_a_file_that_is_not_named(sd2rt: Command) -> None:
    assert sd2rt("generate", "a red cube", "--model", MODEL, *QUICK, "--out", "a.webp", "--quality", "40").code == 0
    assert sd2rt("reproduce", "a.webp").out == "sd2rt-7.webp\n"
    assert Path("sd2rt-7.webp").read_bytes() == Path("a.webp").read_bytes()
    assert sd2rt("reproduce", "a.webp", "--format", "jpeg", "--out", "new/").out == "new/sd2rt-7.jpg\n"
    assert sd2rt("reproduce", "a.webp", "--out", "b.png", "--no-metadata").code == 0
    found = sd2rt("reproduce", "b.png")
    assert_refused(found, 2, "b.png: got a picture with no parameters")


def test_json_is_that_of_generate(sd2rt: Command) -> None:
    found = sd2rt("generate", "a red cube", "--model", MODEL, *QUICK, "--json", "--out", "a.png")
    again = sd2rt("reproduce", "a.png", "--json", "--out", "b.png")
    first, second = (json.loads(outcome.out)["images"][0] for outcome in (found, again))
    assert first | {"path": ""} == second | {"path": ""}


def test_show_paints_nothing(sd2rt: Command, pictures: list[str], unused_cache: Path) -> None:
    write("a.png", task="inpainting", strength=0.5, image_sha256="ab" * 32, rng="nv")
    found = sd2rt("reproduce", "a.png", "--show")
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    for line in (
        "prompt: a large red sphere",
        "task: inpainting",
        "rng: nv",
        "seed: 7",
        f"needs --image, SHA-256 {'ab' * 32}",
        "needs --mask",
    ):
        assert line in lines
    assert not any(line.startswith("deep_cache") for line in lines)
    shown = json.loads(sd2rt("reproduce", "a.png", "--show", "--json").out)
    assert (shown["parameters"]["deep_cache"], shown["needed"], shown["notes"]) == (1, {"image": "ab" * 32, "mask": None}, [])
    assert not unused_cache.exists()


def write(name: str, **changes: Any) -> None:
    """Write a picture with a record of toyworld's, or with `text` alone."""
    text = changes.pop("text", None)
    chunks = PngInfo()
    if text is None:
        chunks.add_text("sd2rt", json_text(Parameters(**{**toyworld(), **changes})))
    else:
        chunks.add_text("parameters", text)
    Image.new("RGB", (64, 48)).save(name, pnginfo=chunks)


def toyworld() -> dict[str, Any]:
    return {field: getattr(PARAMETERS, field) for field in asdict(PARAMETERS)} | {
        "bundle_sha256": read_bundle(find_model(MODEL)).sha256,
        "steps": 1,
    }


WEB_UI = """a red cube
Negative prompt: blurry
Steps: 2, Sampler: Euler a, CFG scale: 4, Seed: 5, Size: 64x64, Model hash: ad2a33c361, Model: v2-1"""


def test_a_picture_of_the_web_ui(sd2rt: Command) -> None:
    write("a.png", text=f"{WEB_UI}, Clip skip: 2, Hires upscale: 2")
    found = sd2rt("reproduce", "a.png", "--model", MODEL, "--target", "cpu", "--out", "b.png")
    assert found.code == 0
    assert "note: not used: Hires upscale: 2\n" in found.err
    assert "note: Clip skip: 2 is left out, as the web UI does with models other than SD1's\n" in found.err
    assert "note: the picture is of v2-1 (ad2a33c361), --model toyworld is toyworld (" in found.err
    same = ("--negative", "blurry", "--sampler", "euler a", "--guidance", "4", "--rng", "nv", "--steps", "2", "--seed", "5")
    assert sd2rt("generate", "a red cube", "--model", MODEL, "--target", "cpu", *same, "--out", "c.png").code == 0
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()


def test_our_own_text_without_its_record_finds_the_model(sd2rt: Command) -> None:
    assert sd2rt("generate", "a red cube", "--model", MODEL, *QUICK, "--out", "a.png").code == 0
    with Image.open("a.png") as image:
        write("b.png", text=image.info["parameters"])
    assert sd2rt("reproduce", "b.png", "--target", "cpu", "--out", "c.png").code == 0
    assert Path("c.png").read_bytes() == Path("a.png").read_bytes()


def test_a_sampler_that_there_is_not_is_told_and_another_one_taken(sd2rt: Command) -> None:
    write("a.png", text=WEB_UI.replace("Euler a", "DPM fast"))
    found = sd2rt("reproduce", "a.png", "--model", MODEL)
    assert found.code == 2
    assert "sd2rt: unknown sampler 'DPM fast'" in found.err
    assert found.err.endswith("choose one with --sampler\n")
    assert sd2rt("reproduce", "a.png", "--model", MODEL, "--sampler", "euler", "--out", "b.png").code == 0


@pytest.mark.parametrize(
    ("text", "changes", "options", "words"),
    [
        (
            WEB_UI,
            {},
            (),
            "--model: got none, and v2-1 (ad2a33c361), which the picture is of, is not found here; name its bundle with --model",
        ),
        ("a\nSteps: 1, Seed: 1, Size: 8x8", {}, (), "--model: got none, and a model without a name, which"),
        (None, {"bundle_sha256": "0" * 64}, (), "--model: got none, and toyworld (0000000000), which the picture is of, is not found here"),
        (None, {"given_latents": True}, (), "noise that its caller gave, which its file does not hold; give latents again"),
        (None, {"task": "image-to-image", "strength": 0.5, "image_sha256": "ab" * 32}, (), "--image: got none; the picture was made from"),
        (None, {}, ("--image", "a.png"), "--image: got a.png; the picture was made without one, leave it out"),
        (None, {}, ("--out", "b.png", "--format", "webp"), "--out: got b.png with --format webp"),
        (None, {}, ("--quality", "50"), "--quality: got 50 for PNG"),
        (None, {"steps": 0}, (), "steps: got"),
        (None, {"seed": -1}, (), "seed: got"),
        (None, {"upscaler": replace(PARAMETERS, bundle_sha256="1" * 64)}, (), "--upscaler: got none, and toyworld (1111111111)"),
    ],
)
def test_refused_before_any_work(
    sd2rt: Command, unused_cache: Path, text: str | None, changes: dict[str, Any], options: tuple[str, ...], words: str
) -> None:
    write("a.png", **changes, **({} if text is None else {"text": text}))
    found = sd2rt("reproduce", "a.png", "--quiet", *options)
    assert_refused(found, 2, words)
    assert not unused_cache.exists()


@pytest.mark.parametrize("out", ["x" * 5000, "x" * 5000 + ".png"])
def test_a_name_that_is_too_long_is_told(out: str, sd2rt: Command) -> None:
    write("a.png")
    assert_refused(sd2rt("reproduce", "a.png", "--quiet", "--out", out), 2, "cannot write there (File name too long)")


def test_another_bundle_is_told(sd2rt: Command, bundle: Path) -> None:
    write("a.png", bundle_sha256="0" * 64)
    found = sd2rt("reproduce", "a.png", "--model", str(bundle), "--out", "b.png")
    assert found.code == 0
    assert "note: the picture is of toyworld (0000000000), --model" in found.err


def test_a_bundle_folder_of_the_models_name_is_found(sd2rt: Command, bundle: Path, tmp_path: Path) -> None:
    bundle.rename(tmp_path / "mine")
    manifest = tmp_path / "mine" / "bundle.json"
    manifest.write_text(manifest.read_text() + " ")
    write("a.png", bundle_sha256=hashlib.sha256(manifest.read_bytes()).hexdigest(), model="mine")
    assert sd2rt("reproduce", "a.png", "--out", "b.png").code == 0


def test_a_target_that_does_not_work_here_is_told(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = engine_plan.choose_bundle_target

    def refuse_cuda(bundle: Any, name: str) -> str:
        if name == "cuda":
            raise TargetUnavailable("target cuda: no GPU")
        return choose(bundle, name)

    monkeypatch.setattr(engine_plan, "choose_bundle_target", refuse_cuda)
    write("a.png", target="cuda")
    found = sd2rt("reproduce", "a.png", "--out", "b.png")
    assert found.code == 0
    assert "note: painted on cuda, which does not work here (target cuda: no GPU): what is painted will differ a little\n" in found.err
    write("c.png", target="of a later version")
    found = sd2rt("reproduce", "c.png", "--out", "d.png")
    assert found.code == 0
    assert "note: painted on of a later version, which does not work here" in found.err
