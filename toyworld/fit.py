"""One training loop for every toyworld network: AdamW, cosine schedule, moving average, resumable; a CUDA graph per step on a GPU.

Knows no task: a loss is a function without arguments that draws its own batch on the device, so that a whole step can be captured and
replayed. On a CPU the same step runs eagerly.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

LOG_SECONDS = 10.0
SAVE_SECONDS = 120.0
SYNC_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how hard to train.

    Give `steps`, which is repeatable, or `deadline` (seconds since the epoch; the step count then follows the speed).
    """

    steps: int = 0
    deadline: float = 0.0
    learning_rate: float = 1e-3
    warmup: int = 300
    weight_decay: float = 1e-2
    seed: int = 0
    capture: bool = True  # on a GPU, replay each step as a CUDA graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Modules that share a schedule; `until` is the fraction of the training after which they stand still."""

    modules: Sequence[nn.Module]
    until: float = 1.0


class Trainer:
    """State of one training run.

    `average` holds the moving averages of the parameters, over a fiftieth of the run and at most 2,000 steps; `checkpoint` is written
    now and then and picked up again when it exists.
    """

    def __init__(self, groups: Sequence[Group], loss: Callable[[], Tensor], plan: Plan, checkpoint: Path) -> None:
        self.groups, self.loss, self.plan, self.checkpoint = groups, loss, plan, checkpoint
        torch.manual_seed(plan.seed)
        sets = [[p for module in group.modules for p in module.parameters()] for group in groups]
        self.parameters = [p for params in sets for p in params]
        self.device = self.parameters[0].device
        cuda = self.device.type == "cuda"
        rates = [{"params": params, "lr": torch.tensor(0.0, device=self.device)} for params in sets]
        self.optimizer = torch.optim.AdamW(rates, betas=(0.9, 0.99), weight_decay=plan.weight_decay, capturable=cuda, fused=True)
        self.average = [p.detach().clone() for p in self.parameters]
        self.value = torch.zeros((), device=self.device)
        self.newest = torch.ones((), device=self.device)
        self.step, self.planned = 0, plan.steps or 10_000
        if checkpoint.exists():
            self._restore()

    def run(self, notify: Callable[[str], None], on_fraction: Callable[[float], None] = lambda fraction: None) -> None:
        """Train to the end of the plan. `on_fraction` is called with the part done at every log line."""
        advance = self._capture() if self.plan.capture and self.device.type == "cuda" else self._update
        logged_step, logged, saved = self.step, time.monotonic(), time.monotonic()
        while self.step < self.planned:
            self._set_rates()
            advance()
            self.step += 1
            if self.step % SYNC_STEPS == 0 and self.device.type == "cuda":
                torch.cuda.synchronize()  # no long queue: the process can be stopped, and its clock is honest
            now = time.monotonic()
            if now - logged < LOG_SECONDS:
                continue
            value = float(self.value)  # waits for the device
            now = time.monotonic()
            rate = (self.step - logged_step) / (now - logged)
            if self.plan.deadline and now - logged < 3 * LOG_SECONDS:  # a longer gap means that the process was stopped for a while
                self.planned = self.step + max(0, int(rate * (self.plan.deadline - time.time())))
            notify(f"step {self.step}/{self.planned} loss {value:.5f} {rate:.1f} steps/s")
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss became {value} at step {self.step}: lower the learning rate")
            on_fraction(self.step / max(self.planned, 1))
            logged_step, logged = self.step, now
            if now - saved > SAVE_SECONDS:
                self.save()
                saved = now
        self.save()

    def averaged(self) -> list[Tensor]:
        """Exchange the parameters for their moving averages and return the former; call `restore` with them to go on training."""
        former = [p.detach().clone() for p in self.parameters]
        self.restore(self.average)
        return former

    def restore(self, values: Sequence[Tensor]) -> None:
        """Copy `values` into the parameters."""
        with torch.no_grad():
            torch._foreach_copy_([p.detach() for p in self.parameters], list(values))

    def save(self) -> None:
        """Write the checkpoint: parameters, averages, optimizer, step and random state."""
        state = {
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "planned": self.planned,
            "random": torch.cuda.get_rng_state() if self.device.type == "cuda" else torch.get_rng_state(),
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def _restore(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.restore(state["parameters"])
        with torch.no_grad():
            torch._foreach_copy_(self.average, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.planned = state["step"], self.plan.steps or state["planned"]
        random = state["random"].cpu()
        torch.cuda.set_rng_state(random) if self.device.type == "cuda" else torch.set_rng_state(random)

    def _set_rates(self) -> None:
        part = self.step / max(self.planned, 1)
        for group, options in zip(self.groups, self.optimizer.param_groups, strict=True):
            cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, part / group.until)))
            floor = 0.02 if group.until >= 1 else 0.0
            rate = self.plan.learning_rate * min(1.0, self.step / self.plan.warmup) * (cosine * (1 - floor) + floor)
            options["lr"].fill_(rate)
        horizon = max(20.0, min(2000.0, self.planned / 50, self.step / 5))
        self.newest.fill_(1 / horizon)

    def _update(self) -> None:
        """Make one step: loss, gradients, clipping, AdamW, moving average."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            self.value.copy_(loss.detach())
            change = torch._foreach_sub([p.detach() for p in self.parameters], self.average)
            torch._foreach_mul_(change, self.newest)
            torch._foreach_add_(self.average, change)

    def _capture(self) -> Callable[[], None]:
        """Capture one step as a CUDA graph, after three eager ones on a side stream, and return its replay."""
        self._set_rates()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._update()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._update()
        return graph.replay
