"""`sd2rt build` for TensorRT: what its options mean, and real engines for GPUs that this machine has not."""

import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sd2rt.cli import build as command
from sd2rt.cli.build import plan_options, read_counts, read_sizes
from sd2rt.engine import gpu
from sd2rt.engine.errors import InvalidArgument, TargetUnavailable
from sd2rt.engine.spec import Guidance
from sd2rt.engine.trt_library import open_library
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.models import find_model
from tests.cli.conftest import MODEL, Command, start

RTX = ("--target", "tensorrt-rtx", "--compute-capability", "sm89")
NOTHING = dict.fromkeys(["size", "batch", "chunks", "guidance", "compute_capability", "optimization_level", "workspace_mb"])
DEFAULTS: dict[str, Any] = {**NOTHING, "weight_streaming": False, "low_memory": False, "inpaint": False, "precision": "auto"}


@pytest.fixture(scope="module")
def toyworld() -> Bundle:
    return read_bundle(find_model(MODEL))


@pytest.fixture(scope="module")
def rtx() -> None:
    try:
        open_library("tensorrt-rtx")
    except TargetUnavailable as error:
        pytest.skip(str(error))


def test_without_options_engines_are_for_one_picture_of_the_models_size(toyworld: Bundle) -> None:
    options = plan_options(toyworld, "tensorrt", DEFAULTS)
    assert options.smallest == options.usual == options.largest == toyworld.native_size
    assert (options.batch, options.guidance, options.target) == ((1, 1, 1), Guidance.GUIDED, "tensorrt")
    assert options.tensorrt.optimization_level == 3
    assert options.tensorrt.workspace_bytes is None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"size": "128x64"}, ((64, 128), (64, 128), (64, 128))),  # width first here, height first within
        ({"size": "32x48..128x96"}, ((48, 32), (64, 64), (96, 128))),
        ({"size": "96x96..128x128"}, ((96, 96), (96, 96), (128, 128))),
        ({"size": "8x8..32X32"}, ((8, 8), (32, 32), (32, 32))),
    ],
)
def test_sizes_are_width_by_height_and_usual_is_next_to_the_models(asked: dict[str, Any], expected: Any, toyworld: Bundle) -> None:
    options = plan_options(toyworld, "tensorrt", {**DEFAULTS, **asked})
    assert (options.smallest, options.usual, options.largest) == expected


def test_options_reach_the_plan(toyworld: Bundle) -> None:
    asked = {
        "batch": "2..4",
        "chunks": "1..3",
        "guidance": "rescaled",
        "inpaint": True,
        "optimization_level": 0,
        "workspace_mb": 512,
        "low_memory": True,
    }
    options = plan_options(toyworld, "tensorrt-rtx", {**DEFAULTS, **asked, "compute_capability": "SM86, sm89,", "weight_streaming": True})
    assert (options.batch, options.chunks, options.guidance, options.kept) == ((2, 2, 4), (1, 1, 3), Guidance.RESCALED, True)
    assert (options.tensorrt.optimization_level, options.tensorrt.workspace_bytes) == (0, 512 << 20)
    assert (options.tensorrt.low_memory, options.tensorrt.weight_streaming) == (True, True)
    assert options.tensorrt.compute_capabilities == ("sm86", "sm89")


def test_a_model_for_inpainting_has_one_form_of_a_step(toyworld: Bundle) -> None:
    options = plan_options(replace(toyworld, task="inpainting"), "tensorrt", {**DEFAULTS, "inpaint": True})
    assert not options.kept


@pytest.mark.parametrize("text", ["", "64", "64x", "64x64x64", "64x-64", "64x64..", "64x64..96x96..128x128", "64x6.5", "axb"])
def test_odd_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"size: got .+; expected WIDTHxHEIGHT in pixels, such as 768x512, or a range such as"):
        read_sizes(text, (64, 64))


@pytest.mark.parametrize("text", ["0", "-1", "x", "1..", "4..1", "0..2", "1..2..3", "1.5"])
def test_odd_batches_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"batch: got .+; expected a number of pictures, such as 1, or a range such as 1\.\.4"):
        read_counts("batch", text, "pictures")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--target", "tensorrt-rtx", "--compute-capability", "sm77"), "got 'sm77'; expected some of sm75, sm80, sm86"),
        (("--target", "cpu", "--compute-capability", "sm89"), "got sm89 for target cpu; expected none"),
        ((*RTX, "--size", "60x64"), "width: got 60 pixels; expected a multiple of 8"),
        ((*RTX, "--size", "64x128..128x64"), "height: got 128"),
        ((*RTX, "--batch", "none"), "batch: got 'none'"),
        ((*RTX, "--chunks", "0"), "chunks: got '0'; expected a number of parts, such as 1, or a range such as 1..4"),
        ((*RTX, "--optimization-level", "6"), "--optimization-level"),
    ],
)
def test_wrong_options_are_usage_errors_of_one_line(options: tuple[str, ...], expected: str, rtx: None, sd2rt: Command) -> None:
    done = sd2rt("build", MODEL, *options)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert expected in done.err


@pytest.mark.parametrize("command_line", [("build", MODEL), ("generate", "a red cube")])
def test_tensorrt_where_it_is_not_is_one_line_that_names_package_and_driver(
    command_line: tuple[str, ...], sd2rt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # type: ignore[arg-type]  # as Python itself blocks an import
    done = sd2rt(*command_line, "--target", "tensorrt", *(("-q",) if command_line[0] == "generate" else ()))
    driver = "running needs an NVIDIA GPU with a driver for CUDA 13 (580 or newer on Linux)"
    assert done.code == 1
    assert done.err == f"sd2rt: target tensorrt: the package tensorrt is not installed: pip install 'sd2rt[tensorrt]'; {driver}\n"


def test_generate_with_an_engine_that_only_builds_here_is_refused(rtx: None, sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: "no NVIDIA driver was found")
    done = sd2rt("generate", "a red cube", "--target", "tensorrt-rtx", "-q")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "target tensorrt-rtx: no NVIDIA driver was found; tensorrt-rtx needs an NVIDIA GPU" in done.err


def test_cpu_engines_are_the_same_whatever_is_asked(sd2rt: Command) -> None:
    plain = sd2rt("build", MODEL, "--target", "cpu")
    options = {"--size": "128x128", "--batch": "4", "--guidance": "plain", "--optimization-level": "0"}
    asked = sd2rt("build", MODEL, "--target", "cpu", "--low-memory", "--inpaint", *(word for pair in options.items() for word in pair))
    assert (plain.code, asked.code, asked.out) == (0, 0, plain.out)
    noted = {line.split()[0] for line in asked.err.splitlines() if line.endswith("changes nothing for cpu")}
    assert noted == {*options, "--low-memory", "--inpaint"}


def test_options_that_a_target_does_not_use_are_options() -> None:
    names = {parameter.name for parameter in command.build.params}
    assert all(set(unused) < names for unused in command.UNUSED.values())


def test_engines_for_another_machine_are_built_once_and_checked(
    rtx: None, sd2rt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))
    built = sd2rt("build", MODEL, *RTX, "--json")
    engines = json.loads(built.out)["engines"]
    begun = [line for line in built.err.splitlines() if line.startswith("building the tensorrt-rtx engine of")]  # not "still building"
    assert (built.code, len(begun)) == (0, len(engines))
    assert {engine["component"] for engine in engines} >= {"text_encoder", "unet", "vae_decoder", "vae_encoder"}
    started = time.process_time()
    again = sd2rt("build", MODEL, *RTX)
    assert time.process_time() - started < 1
    assert again.out.splitlines() == [engine["folder"] for engine in engines]
    assert "building" not in again.err

    plan = Path(engines[1]["folder"]) / "engine.plan"
    content = bytearray(plan.read_bytes())
    content[1000] ^= 1
    plan.write_bytes(content)
    verified = sd2rt("engines", "verify", "--json")
    assert verified.code == 1
    assert [found["folder"] for found in json.loads(verified.out)["engines"] if found["problems"]] == [engines[1]["folder"]]
    listed = sd2rt("engines", "list").out
    assert listed.count("tensorrt-rtx") == len(engines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_a_build_at_once_and_leaves_nothing(
    number: signal.Signals, rtx: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))
    process = start("build", MODEL, *RTX)
    assert process.stderr is not None
    while "engine of unet" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)
    process.send_signal(number)
    started = time.monotonic()
    assert process.wait(30) == 128 + number
    assert time.monotonic() - started < 3
    left = process.stderr.read()
    assert left.endswith("sd2rt: interrupted\n")
    assert "built the tensorrt-rtx engine of unet" not in left
    assert not list((tmp_path / "cache" / "engines").glob(".tmp-*"))
