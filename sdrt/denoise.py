"""The denoising loop: network, step, network, step; the host only binds buffers.

Rows belong to samples: every sample of a batch has its own sampler table, timesteps, guidance and prompts,
so pictures that differ in all of these share one evaluation of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from sdrt import graphs
from sdrt.backends import Array, Backend, Buffer, Runtime
from sdrt.deep_cache import DeepCache
from sdrt.denoising_plan import HELD_AT_THE_END, IDENTITY, Phase, Plan
from sdrt.errors import ComputeError
from sdrt.samplers import COLUMNS, SLOTS
from sdrt.samples import Held, Sample


class StepGraph:
    """The denoising step, loaded twice: one reads the state that the other has written, and back."""

    def __init__(self, runtime: Runtime, dtype: str) -> None:
        self._load = partial(runtime.load, graphs.path("step", dtype), small=True)
        self.halves = (self._load(), self._load())
        self._aside: Backend | None = None

    def aside(self) -> Backend:
        """One more, for steps that lead to a prediction; loaded when the first is asked for."""
        if self._aside is None:
            self._aside = self._load()
        return self._aside

    def close(self) -> None:
        """Free all."""
        for graph in (*self.halves, self._aside):
            if graph is not None:
                graph.close()


class Denoising:
    """One batch on its way from noise to latents. Iterate over it to run it; it yields the evaluations done.

    shape: of one sample's latents, (C, h, w). deep_cache: run the U-Net's shallow graph in some evaluations,
    on the deep features that lie where the full graph has written them.
    done: how many evaluations are.
    """

    def __init__(
        self,
        runtime: Runtime,
        unet: Backend,
        step: StepGraph,
        samples: Sequence[Sample],
        shape: tuple[int, int, int],
        *,
        deep_cache: DeepCache | None = None,
    ) -> None:
        deep_cache = deep_cache or DeepCache(shallow=unet, interval=1)
        self._device = runtime.device
        self._unet = unet
        self._shallow = deep_cache.shallow
        self._step = step
        self._samples = samples
        self._shape = shape
        self.evaluations = max(sample.table.evaluations for sample in samples)
        self._plan = Plan(samples, self.evaluations, deep_cache)
        self._states = [self._empty((len(samples), SLOTS, *shape), "float32") for _ in range(2)]
        self._finite = [self._empty((len(samples),), "float32") for _ in range(2)]
        self._shared = {
            "noise": self._empty((len(samples), *shape), "float32"),
            "matrix": self._empty((len(samples), SLOTS, COLUMNS), "float32"),
            "c_in": self._empty((len(samples), 1, 1, 1), "float32"),
            "free": self._empty((len(samples), SLOTS, 1, *shape[1:]), "float32"),
            "held": self._empty((len(samples), 2, *shape), "float32"),
            "hold": self._empty((len(samples), SLOTS, 2), "float32"),
        }
        self._buffers = {first: self._phase_buffers(phase) for first, phase in self._plan.phases.items()}
        self._bound: list[tuple[int, int] | None] = [None, None]
        self._aside: dict[str, Buffer] = {}
        self.done = 0

    @property
    def state(self) -> Buffer:
        """[B, SLOTS, C, h, w] float32; once the loop has ended, slot 0 holds the final latents."""
        return self._states[(self.done + 1) % 2]

    @property
    def seeds(self) -> list[int]:
        """Of the pictures of the batch."""
        return [sample.noise.seed for sample in self._samples]

    def check(self) -> None:
        """Wait for the last step; raise ComputeError naming what first gave NaN or Inf, for each picture."""
        finite = self._device.download(self._finite[(self.done + 1) % 2])
        # the step before the first evaluation counts too
        wrong = [(b, max(int(steps) - 1, 0)) for b, steps in enumerate(finite) if steps <= self.done]
        if wrong:
            raise ComputeError(
                f"NaN or Inf: {'; '.join(self._named(b, k) for b, k in wrong)}. With an FP16 bundle try one "
                "exported with --precision fp32, else another sampler, more steps or less guidance"
            )

    def _named(self, b: int, k: int) -> str:
        graph = "unet_shallow" if k in self._plan.reusing else "unet"
        return (
            f"the {graph} graph gave it in evaluation {k + 1} of {self.evaluations} "
            f"(timestep {self._plan.timesteps[k, b]:g}) of the picture with seed {self.seeds[b]}"
        )

    def __iter__(self) -> Iterator[int]:
        plan, upload, shared = self._plan, self._device.upload, self._shared
        self._start()
        for k in range(self.evaluations):
            phase, buffers = plan.phase_at(k), self._buffers[plan.first_of(k)]
            if k in plan.phases:
                for graph in dict.fromkeys((self._unet, self._shallow)):
                    graph.bind({name: buffers[name] for name in (*graph.inputs, *graph.outputs)})
            upload(plan.timesteps[k, phase.owners], buffers["timestep"])
            if k in plan.changes:
                for name, values in phase.told(k).items():
                    upload(values, buffers[name])
            (self._shallow if k in plan.reusing else self._unet).run()
            upload(plan.matrices[k], shared["matrix"])
            upload(plan.c_in[k + 1], shared["c_in"])
            if plan.holds:
                upload(plan.hold[k], shared["hold"])
            if plan.noisy[k].any():
                upload(self._draw_noise(k), shared["noise"])
            self._run_step((k + 1) % 2, plan.first_of(k), plan.first_of(k + 1))
            self.done = k + 1
            yield self.done

    def predict(self) -> Buffer:
        """The state of a batch that ends now: slot 0 is x_0 as the network saw it in the latest evaluation.

        [B, SLOTS, C, h, w] float32, until the next call. To be called between two evaluations: what the step
        has read is still there, and is read again by a step whose matrix leads to x_0. Without this call
        nothing is loaded or computed.
        """
        k, batch = self.done - 1, len(self._samples)
        if not self._aside:
            self._aside = {
                "matrix": self._empty((batch, SLOTS, COLUMNS), "float32"),
                "hold": self._filled(np.broadcast_to(HELD_AT_THE_END, (batch, SLOTS, 2)), "float32"),
                "next_state": self._empty(self._states[0].shape, "float32"),
                "next_finite": self._empty((batch,), "float32"),
                # nobody reads this one
                "sample": self._empty(self._buffers[0]["sample"].shape, self._buffers[0]["sample"].dtype),
            }
        matrix = np.zeros((batch, SLOTS, COLUMNS), np.float32)
        matrix[:, 0, [0, SLOTS]] = self._plan.denoised[k]
        self._device.upload(matrix, self._aside["matrix"])
        outputs, read = self._buffers[self._plan.first_of(k)], self.done % 2
        graph = self._step.aside()
        graph.bind(
            {
                **self._shared,
                **{name: outputs[name] for name in ("out_sample", "guidance", "rows")},
                "owners": self._buffers[0]["owners"],
                "state": self._states[read],
                "finite": self._finite[read],
                **self._aside,
            }
        )
        graph.run()
        return self._aside["next_state"]

    def _start(self) -> None:
        """Lay the first network input: a step whose matrix is the identity."""
        self.done = 0
        plan, upload, shared = self._plan, self._device.upload, self._shared
        state = np.zeros((len(self._samples), SLOTS, *self._shape), np.float32)
        for slots, sample in zip(state, self._samples, strict=True):
            slots[0] = sample.latents
        upload(state, self._states[0])
        upload(np.zeros(len(self._samples), np.float32), self._finite[0])
        # zero times what happens to lie in fresh memory could be NaN
        out_sample = self._buffers[0]["out_sample"]
        upload(np.zeros(out_sample.shape, np.float32), out_sample)
        upload(np.zeros(shared["noise"].shape, np.float32), shared["noise"])
        upload(np.broadcast_to(IDENTITY, shared["matrix"].shape), shared["matrix"])
        upload(plan.c_in[0], shared["c_in"])
        upload(np.zeros(shared["hold"].shape, np.float32), shared["hold"])
        self._hold([None for _ in self._samples])
        self._run_step(0, 0, 0)
        if plan.holds:
            self._hold([sample.held for sample in self._samples])

    def _hold(self, held: Sequence[Held | None]) -> None:
        """Lay what each sample is held to; with None a step has its way everywhere."""
        free = np.ones(self._shared["free"].shape, np.float32)
        latents = np.zeros(self._shared["held"].shape, np.float32)
        for b, one in enumerate(held):
            if one is not None:
                free[b, 0] = one.free
                latents[b] = np.where(one.free, 0, np.stack([one.latents, one.noise]))
        self._device.upload(free, self._shared["free"])
        self._device.upload(latents, self._shared["held"])

    def _run_step(self, which: int, now: int, then: int) -> None:
        """Read what the rows of phase `now` gave, and lay the network input for those of phase `then`."""
        half = self._step.halves[which]
        if self._bound[which] != (now, then):
            read, write = which, 1 - which
            outputs, inputs = self._buffers[now], self._buffers[then]
            half.bind(
                {
                    **self._shared,
                    **{name: outputs[name] for name in ("out_sample", "guidance", "rows")},
                    **{name: inputs[name] for name in ("owners", "sample")},
                    "state": self._states[read],
                    "next_state": self._states[write],
                    "finite": self._finite[read],
                    "next_finite": self._finite[write],
                }
            )
            self._bound[which] = (now, then)
        half.run()

    def _draw_noise(self, k: int) -> Array:
        noise = np.zeros((len(self._samples), *self._shape), np.float32)
        for drawn, sample, noisy in zip(noise, self._samples, self._plan.noisy[k], strict=True):
            if noisy:
                drawn[:] = sample.noise.randn((1, *self._shape))[0]
        return noise

    def _phase_buffers(self, phase: Phase) -> dict[str, Buffer]:
        unet, rows = self._unet, len(phase.owners)
        channels, *size = self._shape
        return {
            "sample": self._empty((rows, *self._shape), unet.inputs["sample"].dtype),
            "timestep": self._empty((rows,), unet.inputs["timestep"].dtype),
            **{  # out_sample and, where the bundle has them, deep_features
                name: self._empty((rows, spec.shape[1] or channels, *size), spec.dtype)
                for name, spec in unet.outputs.items()
            },
            "guidance": self._filled(phase.guidance, "float32"),
            "rows": self._filled(phase.rows, "int64"),
            "owners": self._filled(phase.owners, "int64"),
            **{
                name: self._filled(values, unet.inputs[name].dtype)
                for name, values in phase.told(phase.first).items()
            },
        }

    def _empty(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return self._device.empty(shape, dtype)

    def _filled(self, array: Array, dtype: str) -> Buffer:
        buffer = self._empty(array.shape, dtype)
        self._device.upload(array, buffer)
        return buffer
