"""What is set before Ray is imported, and what is said without it. The cluster itself: `test_ray_backend`."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sd2rt.engine.errors import MissingDependency
from sd2rt.serve import ray_cluster
from sd2rt.serve.errors import ServeError
from sd2rt.serve.ray_cluster import Cluster
from sd2rt.serve.ray_settings import RaySettings


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process that has not imported ray, with an environment of its own."""
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    monkeypatch.delitem(sys.modules, "ray", raising=False)


class Ray(ModuleType):
    """A module in Ray's place that remembers how it was started."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__("ray")
        self.failure = failure
        self.started: dict[str, object] = {}
        self.environment: dict[str, str] = {}

    def init(self, **arguments: object) -> None:
        self.started = arguments
        self.environment = dict(os.environ)
        if self.failure:
            raise self.failure

    def shutdown(self) -> None:
        self.started = {}


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    ray = Ray()
    monkeypatch.setattr(ray_cluster, "_import_ray", lambda: ray)
    return ray


def test_a_cluster_of_our_own_has_a_token_and_keeps_to_this_machine(ray: Ray) -> None:
    cluster = Cluster(RaySettings(replicas=(1, 3), cpus=0.5))
    assert ray.started["address"] == "local"
    assert ray.started["num_cpus"] == 2
    assert ray.started["include_dashboard"] is False
    assert ray.environment["RAY_AUTH_MODE"] == "token"
    assert len(ray.environment["RAY_AUTH_TOKEN"]) == 64
    assert ray.environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert ray.environment[ray_cluster.LOOPBACK_ONLY] == "0"
    folder = str(ray.started["_temp_dir"])
    assert os.path.isdir(folder)
    cluster.close()
    assert (ray.started, os.path.exists(folder)) == ({}, False)


@pytest.mark.parametrize(("mode", "left"), [(None, "token"), ("disabled", "disabled")])
def test_a_cluster_of_others_asks_for_its_token_unless_it_has_none(ray: Ray, mode: str | None, left: str) -> None:
    if mode:
        os.environ["RAY_AUTH_MODE"] = mode
    Cluster(RaySettings(address="head:6379")).close()
    assert ray.environment["RAY_AUTH_MODE"] == left
    assert "RAY_AUTH_TOKEN" not in ray.environment
    assert ray_cluster.LOOPBACK_ONLY not in ray.environment


def test_what_a_killed_process_left_is_removed(ray: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "FOLDERS", tmp_path)
    for name in (
        f"sd2rt-ray-{2**22 + 1}-x",
        f"sd2rt-ray-{10**20}-x",
        "sd2rt-ray-x",
        "sd2rt-ray-1-of-root",
        f"sd2rt-ray-{os.getpid()}-ours",
        "others",
    ):
        (tmp_path / name).mkdir()
    cluster = Cluster(RaySettings())
    cluster.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["others", "sd2rt-ray-1-of-root", f"sd2rt-ray-{os.getpid()}-ours"]


def test_a_folder_that_cannot_be_made_is_told(ray: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "FOLDERS", tmp_path / "none")
    with pytest.raises(ServeError, match=r"^cannot reach a Ray cluster on this machine: .*No such file or directory"):
        Cluster(RaySettings())


def test_the_token_of_another_cluster_is_not_taken_for_our_own(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ["RAY_AUTH_TOKEN"] = "theirs"
    Cluster(RaySettings(address="head:6379")).close()
    assert ray.environment["RAY_AUTH_TOKEN"] == "theirs"
    Cluster(RaySettings()).close()
    ours = ray.environment["RAY_AUTH_TOKEN"]
    assert len(ours) == 64
    monkeypatch.setitem(sys.modules, "ray", ray)  # which has read its token by now
    Cluster(RaySettings()).close()
    assert ray.environment["RAY_AUTH_TOKEN"] == ours


def test_a_cluster_that_cannot_be_reached_is_told(ray: Ray) -> None:
    ray.failure = ConnectionError("nobody there\nat all")
    with pytest.raises(ServeError, match=r"^cannot reach the Ray cluster at head:6379: nobody there; is it up, and its token in"):
        Cluster(RaySettings(address="head:6379"))
    with pytest.raises(ServeError, match=r"^cannot reach a Ray cluster on this machine: nobody there$"):
        Cluster(RaySettings())


def test_ray_that_was_imported_before_without_a_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with pytest.raises(ServeError, match="ray was imported without RAY_AUTH_MODE=token"):
        Cluster(RaySettings())


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    os.environ["RAY_AUTH_MODE"] = "token"
    with pytest.raises(MissingDependency, match=r"--backend ray needs ray: pip install 'sd2rt\[ray\]'"):
        Cluster(RaySettings())
