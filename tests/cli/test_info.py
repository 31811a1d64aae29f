"""`sd2rt info`: the machine, and a bundle."""

import json
from pathlib import Path

from tests.cli.conftest import MODEL, Command


def test_machine(sd2rt: Command, cache: Path) -> None:
    found = json.loads(sd2rt("info", "--json").out)
    targets = {target["name"]: target for target in found["targets"]}
    assert targets["cpu"]["works"]
    assert not targets["tensorrt"]["works"]
    assert all(target["detail"] for target in targets.values())
    assert found["memory_bytes"] > 1e9
    assert found["cpu"]["cores"] >= 1
    assert "onnxruntime" in found["libraries"]
    assert found["cache"]["folder"] == str(cache / "engines")
    text = sd2rt("info").out
    assert all(words in text for words in (found["python"], found["cpu"]["name"], str(cache), *targets))


def test_bundle(sd2rt: Command) -> None:
    found = json.loads(sd2rt("info", MODEL, "--json").out)
    assert (found["task"], found["native_size"]) == ("text-to-image", [64, 64])
    assert {"text_encoder", "unet", "vae_decoder"} <= set(found["components"])
    assert found["components"]["unet"]["bytes"] > 1e6
    text = sd2rt("info", MODEL).out
    assert all(words in text for words in (found["name"], found["sha256"], found["defaults"]["sampler"], *found["components"]))


def test_the_cache_grows_by_what_is_built(sd2rt: Command) -> None:
    built = json.loads(sd2rt("build", MODEL, "--json").out)["engines"]
    counted = json.loads(sd2rt("info", "--json").out)["cache"]
    assert counted["engines"] >= len(built)
    assert counted["bytes"] >= sum(engine["bytes"] for engine in built)
