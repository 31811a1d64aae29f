"""How many replicas, and what each takes."""

from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve import ray_settings
from sd2rt.serve.ray_settings import RaySettings, portable_model, read_replicas


@pytest.mark.parametrize(("text", "replicas"), [("1", (1, 1)), ("2-5", (2, 5))])
def test_replicas_are_read(text: str, replicas: tuple[int, int]) -> None:
    assert read_replicas(text) == replicas


@pytest.mark.parametrize("text", ["", "two", "1-", "-2", "1.5", "1-2-3"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="replicas: got"):
        read_replicas(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replicas": (0, 1)}, "replicas: got 0 to 1; expected 1 to 1,000"),
        ({"replicas": (3, 2)}, "replicas: got 3 to 2"),
        ({"cpus": -1.0}, "cpus-per-replica: got -1; expected 0 to 1024"),
        ({"gpus": 1.5}, "gpus-per-replica: got 1.5; expected a whole number"),
    ],
)
def test_what_no_cluster_can_do_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        RaySettings(**options)


def test_this_machines_cores_are_shared_out_and_a_clusters_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_settings, "cpu_count", lambda: 6)
    own = RaySettings(replicas=(1, 4))
    assert (own.cpus_for(), own.threads_for(0), own.local_cpus()) == (1.5, 1, 6)
    assert (RaySettings(address="auto").cpus_for(), RaySettings(address="auto", cpus=4).threads_for(0)) == (1.0, 4)
    assert own.threads_for(3) == 3


def test_a_gpu_is_asked_for_where_the_target_needs_one() -> None:
    assert [RaySettings().gpus_for(target) for target in ("cpu", "auto", "tensorrt")] == [0, 0, 1]
    assert RaySettings(gpus=0.25).gpus_for("cpu") == 0.25


def test_folders_go_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sd21").mkdir()
    (tmp_path / "toyworld").mkdir()
    assert portable_model("./sd21") == str(tmp_path / "sd21")
    assert portable_model("toyworld") == "toyworld"
    assert portable_model("stored") == "stored"
