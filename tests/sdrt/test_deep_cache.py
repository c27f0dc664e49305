"""Which evaluations run which graph of the U-Net, and where the deep features lie meanwhile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdrt.backends import open_runtime
from sdrt.deep_cache import DeepCache
from sdrt.denoise import Denoising, StepGraph
from sdrt.errors import BundleError, ComputeError, InputError
from sdrt.noise import NoiseGenerator
from sdrt.pipeline import Pipeline
from sdrt.request import resolve_request
from sdrt.samplers import NoiseSchedule, compile_sampler
from sdrt.samples import Conditions, Sample, initial_latents
from sdrt.tensors import TensorSpec

SHAPE = (4, 3, 5)
DEEP = TensorSpec("float32", (None, 2, None, None))


class Graph:
    """Either graph of a U-Net. log: one letter for each run of either."""

    def __init__(self, letter, log, inputs=None, outputs=None):
        self.inputs = {
            "sample": TensorSpec("float32", (None, 4, None, None)),
            "timestep": TensorSpec("float32", (None,)),
            "encoder_hidden_states": TensorSpec("float32", (None, None, 3)),
            **(inputs or {}),
        }
        self.outputs = {"out_sample": TensorSpec("float32", (None, 4, None, None)), **(outputs or {})}
        self.letter, self.log, self.deep = letter, log, []

    def bind(self, buffers):
        assert set(buffers) == {*self.inputs, *self.outputs}
        self.buffers = buffers
        self.deep.append(buffers["deep_features"].address)

    def run(self):
        self.log.append(self.letter)
        arrays = {name: buffer.array for name, buffer in self.buffers.items()}
        sample, deep = arrays["sample"], arrays["deep_features"]
        assert deep.shape == (len(sample), 2, *SHAPE[1:])
        if self.letter == "f":
            deep[:] = np.tanh(sample[:, :2] + arrays["encoder_hidden_states"][:, :1, :1, None])
        arrays["out_sample"][:] = 0.1 * sample + deep[:, [0, 1, 0, 1]]

    def close(self):
        pass


@pytest.fixture(scope="module")
def runtime():
    return open_runtime("onnxruntime")


def sample(evaluations, *, seed=0, changes=(), reweighed=None):
    table = compile_sampler("euler", NoiseSchedule(), evaluations)
    noise = NoiseGenerator(seed)

    def row(value):
        return {"encoder_hidden_states": np.full((2, 3), value, np.float32)}

    conditions = Conditions(
        rows=[row(0.1), row(0.2)],
        guidance=[-1.0, 2.0],
        changes={k: [row(0.1), row(k)] for k in changes},
        reweighed=reweighed or {},
    )
    latents = initial_latents(table, noise, SHAPE)
    return Sample(table=table, conditions=conditions, latents=latents, noise=noise)


def denoise(runtime, samples, interval):
    """What was run, one letter each; the final states; and the addresses of what each graph was bound to."""
    log = []
    full, shallow = Graph("f", log, outputs={"deep_features": DEEP}), Graph("s", log, {"deep_features": DEEP})
    cache = None if interval is None else DeepCache(shallow=shallow, interval=interval)
    step = StepGraph(runtime, "float32")
    denoising = Denoising(runtime, full, step, samples, SHAPE, deep_cache=cache)
    for _ in denoising:
        pass
    return "".join(log), runtime.device.download(denoising.state), (full.deep, shallow.deep)


@pytest.mark.parametrize(
    ("interval", "settings", "runs"),
    [
        (None, {}, "ffffffffff"),
        (1, {}, "ffffffffff"),
        (2, {}, "fsfsfsfsfs"),
        (3, {}, "fssfssfssf"),
        (20, {}, "fsssssssss"),
        # another text, other rows, other weights: nothing that was computed for the last ones is used
        (3, {"changes": (4,)}, "fssffssfss"),
        (3, {"changes": (4, 5, 7)}, "fssfffsfss"),
        (4, {"reweighed": {5: [0.0, 1.0]}}, "fsssffsssf"),
        (4, {"reweighed": {2: [-3.0, 4.0]}, "changes": (8,)}, "fsfsssfsfs"),
    ],
)
def test_graphs_that_are_run(runtime, interval, settings, runs):
    ran, _, (full, shallow) = denoise(runtime, [sample(10, **settings)], interval)
    assert ran == runs
    if "s" in runs:  # the one buffer is an output of one graph and an input of the other
        assert full == shallow


def test_the_graph_that_gave_nan_is_named(runtime):
    log = []
    full, shallow = Graph("f", log, outputs={"deep_features": DEEP}), Graph("s", log, {"deep_features": DEEP})
    run = shallow.run

    def broken():
        run()
        if log.count("s") == 3:
            shallow.buffers["out_sample"].array[0, 0, 0, 0] = np.nan

    shallow.run = broken
    cache = DeepCache(shallow=shallow, interval=3)
    denoising = Denoising(
        runtime, full, StepGraph(runtime, "float32"), [sample(8, seed=5)], SHAPE, deep_cache=cache
    )
    list(denoising)
    with pytest.raises(ComputeError, match=r"unet_shallow graph gave it in evaluation 5 of 8 .* seed 5"):
        denoising.check()


def test_interval_1_is_none(runtime):
    _, without, _ = denoise(runtime, [sample(7)], None)
    _, with_one, _ = denoise(runtime, [sample(7)], 1)
    _, with_two, _ = denoise(runtime, [sample(7)], 2)
    np.testing.assert_array_equal(without, with_one)
    assert not np.allclose(without, with_two)


def test_a_picture_does_not_depend_on_its_batch(runtime):
    """Nor on one that takes fewer steps."""

    def samples():
        return [sample(steps, seed=seed, changes=(2,)) for seed, steps in enumerate((9, 4, 9))]

    _, together, _ = denoise(runtime, samples(), 3)
    for index in range(3):
        _, alone, _ = denoise(runtime, [samples()[index]], 3)
        np.testing.assert_array_equal(together[index], alone[0])


def test_a_batch_has_one_plan(runtime):
    with pytest.raises(InputError, match="must not share a batch"):
        denoise(runtime, [sample(9, changes=(2,)), sample(9)], 3)
    ran, _, _ = denoise(runtime, [sample(9, changes=(2,)), sample(9)], 1)
    assert ran == "f" * 9


def test_a_bundle_without_the_graph(pipeline: Pipeline):
    with pytest.raises(InputError, match=r"has no shallow U-Net; export it again with --deep-cache"):
        pipeline.generate("a cat", deep_cache=2)
    request = replace(resolve_request(pipeline.manifest, "a cat", steps=1), deep_cache=2)
    with pytest.raises(BundleError, match="has no unet_shallow graph"):
        list(pipeline.run(request))
