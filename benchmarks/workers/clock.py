"""Time what a device does: calls in blocks, an engine alone, and the device loop against the sum of its engines. Knows no model."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from benchmarks.records import summary
from sd2rt.engine.cuda import Driver
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines, Work
from sd2rt.engine.protocol import DeviceEngine

WARM_UPS = 3  # a loop runs once as it is, records its graph in the second job, and launches that from then on


def seconds_per_call(call: Callable[[], object], synchronize: Callable[[], object], *, blocks: int, calls: int) -> list[float]:
    """Return, for each block, the seconds of one of its calls: the device is waited for at a block's ends alone, as a loop does."""
    seconds = []
    for _ in range(blocks):
        synchronize()
        start = perf_counter()
        for _ in range(calls):
            call()
        synchronize()
        seconds.append((perf_counter() - start) / calls)
    return seconds


def engine_seconds(driver: Driver, stream: int, engine: DeviceEngine, *, blocks: int = 5, calls: int = 20) -> list[float]:
    """Time an engine alone, which is bound to memory: recorded as a CUDA graph where it can be, so that launching costs nothing."""
    for _ in range(2):
        engine.enqueue(stream)
    if not engine.capturable:
        return seconds_per_call(lambda: engine.enqueue(stream), lambda: driver.synchronize(stream), blocks=blocks, calls=calls)
    driver.begin_capture(stream)
    engine.enqueue(stream)
    graph = driver.end_capture(stream)
    try:
        driver.launch(graph, stream)
        return seconds_per_call(lambda: driver.launch(graph, stream), lambda: driver.synchronize(stream), blocks=blocks, calls=calls)
    finally:
        driver.synchronize(stream)
        driver.destroy_graph(graph)


def paint(loop: DeviceLoop, work: Work) -> float:
    """Do a whole job, from prompt ids to pixels, and return its seconds."""
    start = perf_counter()
    loop.start(work)
    loop.run()
    loop.decode()
    return perf_counter() - start


def measure_overhead(
    driver: Driver, stream: int, engines: LoopEngines, loop: DeviceLoop, work: Work, *, jobs: int = 5, calls: int = 20
) -> dict[str, float]:
    """Compare whole jobs with the sum of what their engines take alone: medians in seconds, and the part that the loop adds."""
    loop_s = summary([paint(loop, work) for _ in range(WARM_UPS + jobs)][WARM_UPS:])["median"]
    parts = ((engines.text_encoder, 1), (engines.step, work.rows), (engines.decoder, len(work.latents)))
    engines_s = sum(times * summary(engine_seconds(driver, stream, engine, calls=calls))["median"] for engine, times in parts)
    return {"loop_s": loop_s, "engines_s": engines_s, "overhead": loop_s / engines_s - 1}
