"""The Ray cluster that replicas are in: one of our own on this machine, closed to others, or one that somebody runs, by its address.

Ray runs whatever code it is sent, so nobody else may send any: token authentication is always on, unless RAY_AUTH_MODE=disabled was set
by hand for a cluster of one's own. A cluster that is started here listens on loopback, gets a token of its own, no dashboard and no
usage statistics, and ends with this process. Only the modules `ray_*` import ray.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from sd2rt.engine.errors import MissingDependency, first_line
from sd2rt.serve.errors import ServeError
from sd2rt.serve.ray_settings import RaySettings

NAMESPACE = "sd2rt"
OBJECT_STORE_BYTES = 256 << 20
AUTH_MODE = "RAY_AUTH_MODE"
AUTH_TOKEN = "RAY_AUTH_TOKEN"
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Ray's word, on every system: 0 keeps a node's servers on 127.0.0.1
QUIET = ("ray", "ray.serve", "ray.data")
FOLDER = "sd2rt-ray-"
FOLDERS = Path("/tmp")  # as Ray's own: the paths of its sockets may have 107 characters at most


class Cluster:
    """A connection of this process to a cluster, one at a time; `close` ends it, and the cluster with it where it is our own."""

    def __init__(self, settings: RaySettings) -> None:
        """Connect, or start one. Raises MissingDependency without ray, ServeError when that fails."""
        self._folder: Path | None = None
        self._ending = threading.Event()
        _prepare(local=not settings.address)
        self.ray = _import_ray()
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
        started: Future[None] = Future()
        atexit.register(self.close)
        try:
            threading.Thread(target=self._hold, args=(self._arguments(settings), started), name="ray", daemon=True).start()
            started.result()
        except Exception as error:  # Ray's errors of starting have no common base
            self.close()
            where = f"the Ray cluster at {settings.address}" if settings.address else "a Ray cluster on this machine"
            hint = "; is it up, and its token in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token?" if settings.address else ""
            raise ServeError(f"cannot reach {where}: {first_line(error)}{hint}") from error

    def _arguments(self, settings: RaySettings) -> dict[str, Any]:
        """Return those of `ray.init`, with a new folder for a cluster of our own."""
        common = {"namespace": NAMESPACE, "log_to_driver": False, "configure_logging": False}
        if settings.address:
            return {"address": settings.address, **common}
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=FOLDERS))
        own = {"num_cpus": settings.local_cpus(), "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        return {"address": "local", "_temp_dir": str(self._folder), **own, **common}

    def _hold(self, arguments: dict[str, Any], started: Future[None]) -> None:
        """Start Ray, and stay until the end: the system ends Ray's processes with the thread that started them."""
        try:
            self.ray.init(**arguments)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        self._ending.wait()

    @property
    def local(self) -> bool:
        """Whether it was started here, and ends with this process."""
        return self._folder is not None

    def close(self) -> None:
        """Leave the cluster, or end it; calling it again does nothing."""
        atexit.unregister(self.close)
        with contextlib.suppress(Exception):  # a cluster that is gone cannot be left any more
            self.ray.shutdown()
        self._ending.set()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def cluster(settings: RaySettings) -> Iterator[Cluster]:
    """Hold a cluster for the length of a block. Raises as `Cluster` does."""
    found = Cluster(settings)
    try:
        yield found
    finally:
        found.close()


def take_back_signals() -> None:
    """Have SIGTERM handled as before: Ray's own code prints stacks to stderr first. Only the main thread can."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _prepare(*, local: bool) -> None:
    """Set what Ray reads from the environment when it is imported, and hands on to its processes. Raises ServeError if that is too late."""
    mode = os.environ.get(AUTH_MODE)
    wanted = "token" if local or mode is None else mode
    if "ray" in sys.modules and mode != wanted:
        raise ServeError(f"ray was imported without {AUTH_MODE}={wanted}; set it in the environment before")
    os.environ[AUTH_MODE] = wanted
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # or a call after the end would start another cluster
    if local:
        if "ray" not in sys.modules or AUTH_TOKEN not in os.environ:  # Ray reads it once in a process
            os.environ[AUTH_TOKEN] = secrets.token_hex(32)
        os.environ[LOOPBACK_ONLY] = "0"


def _sweep() -> None:
    """Remove what clusters left whose process was killed."""
    for folder in FOLDERS.glob(f"{FOLDER}*"):
        pid = folder.name.removeprefix(FOLDER).partition("-")[0]
        try:
            os.kill(int(pid), 0)
        except (ValueError, OverflowError, ProcessLookupError):
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another user's, and alive
            continue


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(f"--backend ray needs {error.name}: pip install 'sd2rt[ray]'") from error
    return ray
