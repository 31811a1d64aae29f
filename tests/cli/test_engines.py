"""`sd2rt build` and `sd2rt engines`, on the embedded model."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import MODEL, Command


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))


def test_build_verify_damage_prune(sd2rt: Command) -> None:
    built = sd2rt("build", MODEL, "--target", "cpu")
    folders = built.out.splitlines()
    assert built.code == 0
    assert built.err.count("building the cpu engine") == len(folders) >= 3
    assert "building" not in sd2rt("build", MODEL).err
    verified = sd2rt("engines", "verify")
    assert (verified.code, sorted(verified.out.splitlines())) == (0, sorted(f"{folder}: ok" for folder in folders))

    weights = next(path for path in Path(folders[0]).iterdir() if path.suffix == ".bin")
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    damaged = sd2rt("engines", "verify", "--json")
    found = json.loads(damaged.out)
    assert (damaged.code, found["ok"]) == (1, False)
    assert [engine["folder"] for engine in found["engines"] if engine["problems"]] == [folders[0]]

    assert sd2rt("engines", "prune", "--all", "-q").out.splitlines() == sorted(folders)
    assert json.loads(sd2rt("engines", "list", "--json").out)["engines"] == []


def test_list(sd2rt: Command) -> None:
    built = json.loads(sd2rt("build", MODEL, "--json").out)
    lines = sd2rt("engines", "list").out.splitlines()
    listed = json.loads(sd2rt("engines", "list", "--json").out)["engines"]
    assert {engine["folder"] for engine in listed} == {engine["folder"] for engine in built["engines"]}
    assert {engine["target"] for engine in listed} == {"cpu"}
    assert len(lines) == len(listed)
    assert all(any(engine["component"] in line for line in lines) for engine in listed)


def test_prune_by_age_and_size(sd2rt: Command) -> None:
    sizes = {engine["folder"]: engine["bytes"] for engine in json.loads(sd2rt("build", MODEL, "--json").out)["engines"]}
    assert sd2rt("engines", "prune").out.strip() == ""
    assert sd2rt("engines", "prune", "--unused-days", "1").out.strip() == ""
    limit = (sum(sizes.values()) - 1) / 1e9
    removed = json.loads(sd2rt("engines", "prune", "--max-gb", f"{limit:.9f}", "--json").out)["removed"]
    assert len(removed) == 1
    assert removed[0] in sizes
    assert len(sd2rt("engines", "prune", "--unused-days", "0").out.split()) == len(sizes) - 1


@pytest.mark.parametrize("option", ["--max-gb", "--unused-days"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e300", "-1"])
def test_odd_limits_are_usage_errors_of_one_line(option: str, value: str, sd2rt: Command) -> None:
    done = sd2rt("engines", "prune", option, value)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert option in done.err


def test_an_empty_cache(sd2rt: Command) -> None:
    verified = sd2rt("engines", "verify", "--json")
    assert (verified.code, json.loads(verified.out)) == (0, {"ok": True, "engines": []})
    assert (sd2rt("engines", "list").out, sd2rt("engines", "prune").out) == ("", "")
