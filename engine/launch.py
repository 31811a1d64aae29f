"""Work that a stream is given again and again: recorded as a CUDA graph once it has run, and from then on launched by one call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sd2rt.engine.device_buffers import DeviceBuffers
from sd2rt.engine.errors import EngineError
from sd2rt.engine.store import Notify


class Launch:
    """`body` gives the work to the stream of `held`. `recordable` is asked, before recording, whether that is possible.

    The first call is never recorded: kernels are loaded when they first run, and loading cannot be. Calls that are not recorded do
    `plain`, which comes to the same as `body`, and so do all where recording fails: `notify` is told why. It is told once, too, that
    recording is not possible, unless `plain` is given: that consists of launches that tell it themselves.
    """

    def __init__(
        self,
        held: DeviceBuffers,
        body: Callable[[], None],
        *,
        name: str,
        recordable: Callable[[], bool],
        notify: Notify,
        plain: Callable[[], None] | None = None,
    ) -> None:
        self._driver = held.driver
        self._stream = held.stream
        self._body = body
        self._plain = plain or body
        self._name = name
        self._recordable = recordable
        self._notify = notify
        self._has_run = False
        self._failed = False
        self._told = plain is not None
        self._graph: int | None = None

    def __call__(self) -> None:
        """Launch the work once and return at once. Raises EngineError."""
        if self._graph is None and self._has_run and not self._failed:
            if self._recordable():
                self._record()
            elif not self._told:
                self._told = True
                self._notify(f"{self._name}: launched without a CUDA graph, because its engine cannot be recorded: pictures take longer")
        if self._graph is not None:
            self._driver.launch(self._graph, self._stream)
        else:
            self._plain()
            self._has_run = True

    def close(self) -> None:
        """Free the graph, which the GPU must be done with; calling it again does nothing."""
        graph, self._graph = self._graph, None
        if graph is not None:
            self._driver.destroy_graph(graph)

    def _record(self) -> None:
        try:
            self._driver.begin_capture(self._stream)
            try:
                self._body()
            except BaseException:
                with suppress(EngineError):  # it only says again that something failed; the stream works afterwards
                    self._driver.destroy_graph(self._driver.end_capture(self._stream))
                raise
            self._graph = self._driver.end_capture(self._stream)
        except EngineError as error:
            self._failed = True
            self._notify(f"{self._name}: launched without a CUDA graph, because it cannot be recorded ({error})")
