"""The VAE decoder on a device: latents that are already there to pictures on the host, one picture a launch."""

from __future__ import annotations

from collections.abc import Mapping

from sd2rt.engine.device_buffers import DeviceBuffers
from sd2rt.engine.device_job import Decoded
from sd2rt.engine.launch import Launch
from sd2rt.engine.protocol import DeviceEngine
from sd2rt.engine.store import Notify


class DevicePixels:
    """The decoder engine, bound for one picture, and page-locked memory for `images` of them."""

    def __init__(self, held: DeviceBuffers, engine: DeviceEngine, axes: Mapping[str, int], images: int, notify: Notify) -> None:
        self._held = held
        self._images = images
        self.tensors = {spec.name: held.tensor(spec, axes) for spec in (*engine.inputs, *engine.outputs)}
        self._host = {name: held.pinned((images, *self.tensors[name].shape[1:]), self.tensors[name].dtype) for name in ("pixels",)}
        self._broken = held.pinned((images,), self.tensors["broken"].dtype)
        self._decode = Launch(
            held, lambda: engine.enqueue(held.stream), name="decoder", recordable=lambda: engine.capturable, notify=notify
        )
        self._start, self._end = held.event(), held.event()
        held.on_close(self._decode.close)

    def decode(self, latents: int, unit: bool) -> Decoded:
        """Decode the latents of all images, which lie at an address, in the stream's order, and wait for the pictures."""
        driver, stream, name = self._held.driver, self._held.stream, "unit" if unit else "pixels"
        picture, source = self.tensors[name], self.tensors["latents"]
        if name not in self._host:
            self._host[name] = self._held.pinned((self._images, *picture.shape[1:]), picture.dtype)
        driver.record(self._start, stream)
        for image in range(self._images):
            driver.copy(source.address, latents + image * source.bytes, source.bytes, stream)
            self._decode()
            driver.download(self._host[name][image], picture.address, stream)
            driver.download(self._broken[image : image + 1], self.tensors["broken"].address, stream)
        driver.record(self._end, stream)
        driver.wait(self._end)
        return Decoded(pictures=self._host[name].copy(), finite=not self._broken.any())

    def seconds(self) -> float:
        """Return the time of the last decoding."""
        return self._held.driver.elapsed_seconds(self._start, self._end)
