"""Bad input gets one clear line and the right exit code, before an engine is built, and leaves no file behind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import MODEL, Command, assert_refused

PROMPT = "a red cube"
WEIGHTS = "text_encoder/model.onnx.data"

pytestmark = pytest.mark.usefixtures("unused_cache")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([PROMPT, "--model", "nope"], 1, "no model 'nope'"),
        ([PROMPT, "--model", "/etc/hostname"], 1, "not a bundle"),
        ([PROMPT, "--target", "abacus"], 2, "expected auto or one of"),
        ([PROMPT, "--target", "tensorrt"], 1, "target tensorrt"),
        ([PROMPT, "--width", "100"], 2, "multiple of 8"),
        ([PROMPT, "--height", "0"], 2, "height"),
        ([PROMPT, "--height", "-8"], 2, "height"),
        ([PROMPT, "--steps", "0"], 2, "steps"),
        ([PROMPT, "--steps", "many"], 2, "--steps"),
        ([PROMPT, "--guidance", "nan"], 2, "guidance_scale"),
        ([PROMPT, "--guidance-rescale", "2"], 2, "guidance_rescale"),
        ([PROMPT, "--guidance-interval", "0.5"], 2, "--guidance-interval: got '0.5'; expected two numbers from 0 to 1, such as 0.2,0.8"),
        ([PROMPT, "--guidance-interval", "a,b"], 2, "--guidance-interval: got 'a,b'"),
        ([PROMPT, "--guidance-interval", "0,2"], 2, "guidance_interval: got '2.0'"),
        ([PROMPT, "--guidance-interval", "nan,1"], 2, "guidance_interval: got 'nan'"),
        ([PROMPT, "--guidance-reuse", "0"], 2, "guidance_reuse"),
        ([PROMPT, "--seed", "-1"], 2, "seed"),
        ([PROMPT, "-n", "0"], 2, "images_per_prompt"),
        ([PROMPT, "-n", "1000000000"], 2, "images_per_prompt"),
        ([PROMPT, "--sampler", "lcm", "--steps", "60"], 2, "60"),
        ([PROMPT, "--sampler", "warp"], 2, "unknown sampler 'warp'"),
        ([PROMPT, "--sampler", "ddim karras"], 2, "no sigmas"),
        ([""], 2, "empty"),
        ([" \n"], 2, "empty"),
        (["x" * 100_000], 2, "100,000 characters"),
        ([PROMPT, "--negative", "x" * 100_000], 2, "100,000 characters"),
        ([PROMPT, "--out", "taken.png"], 2, "--force"),
        ([PROMPT, "--out", "taken.png/red.png"], 2, "cannot write there"),
        ([PROMPT, "--out", "/proc/red.png"], 2, "cannot write there"),
        ([PROMPT, "--out", "red.gif"], 2, "ends in one of .png"),
        ([PROMPT, "--colour", "red"], 2, "No such option"),
        ([], 2, "Missing argument 'PROMPT'"),
        ([PROMPT, "second"], 2, "unexpected extra argument"),
    ],
)
def test_generate(arguments: list[str], code: int, words: str, sd2rt: Command, tmp_path: Path, unused_cache: Path) -> None:
    (tmp_path / "taken.png").write_bytes(b"before")
    model = [] if "--model" in arguments else ["--model", MODEL]
    assert_refused(sd2rt("generate", *arguments, *model, "--quiet"), code, words)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("taken.png", b"before")]
    assert not unused_cache.exists()


def cut_weights(bundle: Path) -> None:
    (bundle / WEIGHTS).write_bytes((bundle / WEIGHTS).read_bytes()[:-1])


def flip_a_bit(bundle: Path) -> None:
    content = bytearray((bundle / WEIGHTS).read_bytes())
    content[1000] ^= 1
    (bundle / WEIGHTS).write_bytes(content)


def lose_weights(bundle: Path) -> None:
    (bundle / WEIGHTS).unlink()


def cut_manifest(bundle: Path) -> None:
    (bundle / "bundle.json").write_text((bundle / "bundle.json").read_text()[:500])


def raise_schema(bundle: Path) -> None:
    content = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**content, "schema_version": 99}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_weights, "bytes"),
        (flip_a_bit, "SHA-256"),
        (lose_weights, "missing"),
        (cut_manifest, "bundle.json"),
        (raise_schema, "schema version 99"),
    ],
)
@pytest.mark.parametrize("verb", [("generate", PROMPT, "--model"), ("build",)], ids=lambda verb: verb[0])
def test_damaged_bundles(
    damage: Callable[[Path], None], words: str, verb: tuple[str, ...], bundle: Path, sd2rt: Command, tmp_path: Path
) -> None:
    damage(bundle)
    assert_refused(sd2rt(*verb, str(bundle), "--quiet"), 1, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["paint"], 2, "No such command 'paint'"),
        (["export"], 2, "Missing option"),
        (["export", "--out", "new"], 2, "neither of SOURCE"),
        (["export", "nope", "--preset", "sd2-base", "--random-weights", "--out", "new"], 2, "both of SOURCE"),
        (["export", "nope", "--dtype", "int3", "--out", "new"], 2, "dtype"),
        (["export", "nope", "--preset", "sd9", "--out", "new"], 2, "preset"),
        (["build", "nope"], 1, "no model"),
        (["build", MODEL, "--target", "abacus"], 2, "expected auto or one of"),
        (["info", "nope"], 1, "no model"),
        (["engines", "prune", "--unused-days", "-1"], 2, "--unused-days"),
        (["engines", "mend"], 2, "No such command 'mend'"),
    ],
)
def test_other_verbs(arguments: list[str], code: int, words: str, sd2rt: Command, tmp_path: Path) -> None:
    assert_refused(sd2rt(*arguments), code, words)
    assert list(tmp_path.iterdir()) == []
