"""The training loop that all three stages share: seeded by step, resumable, with averaged weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .files import replacing

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Warm-up, plateau, cosine decay to zero over the last share `decay` of the steps."""

    steps: int
    batch: int
    learning_rate: float
    decay: float
    warmup: int = 100
    averaging: float = 0.998

    def with_steps(self, steps: int | None) -> Schedule:
        """The same schedule over another number of steps."""
        return self if steps is None else replace(self, steps=steps)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        start = self.steps * (1 - self.decay)
        fall = max(0.0, (step - start) / (self.steps - start))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * (1 + math.cos(math.pi * fall)) / 2


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Randomness of one step. It depends on the seed and the step alone, so a resumed run repeats nothing."""

    numpy: np.random.Generator
    torch: torch.Generator
    step: int

    @classmethod
    def of(cls, seed: int, step: int) -> Draws:
        """The randomness of a step of the run with that seed."""
        rng = np.random.default_rng((seed, step))
        return cls(numpy=rng, torch=torch.Generator().manual_seed(int(rng.integers(2**62))), step=step)


class Trainer:
    """Trains `module` by minimising `loss`, and keeps `averaged`, the running mean of its weights."""

    def __init__(self, module: nn.Module, schedule: Schedule, state: Path, seed: int, log: Log) -> None:
        """Go on from the file `state` if it is there."""
        self.module, self.schedule, self.state, self.seed, self.log = module, schedule, state, seed, log
        self.averaged = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.optimizer = torch.optim.AdamW(module.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
        self.step = 0
        if state.exists():
            self._resume()

    def run(
        self,
        loss: Callable[[Draws], Tensor],
        report: Callable[[int], None] | None = None,
        every: int = 500,
    ) -> None:
        """Train to the end of the schedule, saving every `every` steps and then calling `report`."""
        started, total = time.monotonic(), 0.0
        self.module.train()
        while self.step < self.schedule.steps:
            total += self._update(loss(Draws.of(self.seed, self.step)))
            self.step += 1
            if self.step % every and self.step != self.schedule.steps:
                continue
            taken = (time.monotonic() - started) / ((self.step - 1) % every + 1)
            mean = total / ((self.step - 1) % every + 1)
            self.log(f"step {self.step}/{self.schedule.steps}  loss {mean:.4f}  {taken:.3f} s/step")
            self._save()
            if report is not None:
                report(self.step)
                self.module.train()
            started, total = time.monotonic(), 0.0

    def use_averaged(self) -> None:
        """Give the module its averaged weights, for good."""
        self.module.load_state_dict(self.averaged)
        self.module.eval()

    def _update(self, loss: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        # A short memory at first, so that the untrained weights fade.
        keep = min(self.schedule.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                if value.is_floating_point():
                    self.averaged[name].lerp_(value, 1 - keep)
        return float(loss.detach())

    def _save(self) -> None:
        content = {
            "step": self.step,
            "module": self.module.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
        }
        with replacing(self.state) as path:
            torch.save(content, path)

    def _resume(self) -> None:
        device = next(self.module.parameters()).device
        content = torch.load(self.state, map_location=device, weights_only=True)
        self.module.load_state_dict(content["module"])
        self.averaged = content["averaged"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = content["step"]
        self.log(f"resumed at step {self.step}")
