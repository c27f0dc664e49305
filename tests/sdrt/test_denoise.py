"""The loop with a network of a few operations, so that every number can be computed again.

Samples of one batch have their own sampler, steps, guidance and noise, and none of them sees the others.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from installed_backends import INSTALLED

from sdrt.backends import open_runtime
from sdrt.denoise import Denoising, StepGraph
from sdrt.errors import ComputeError, InputError
from sdrt.noise import NoiseGenerator
from sdrt.samplers import COLUMNS, SAMPLERS, SLOTS, NoiseSchedule, SamplerTable, compile_sampler
from sdrt.samples import Conditions, Sample, initial_latents
from sdrt.tensors import TensorSpec

SHAPE = (4, 3, 5)
LENGTH, WIDTH = 2, 3


def predict(sample, timestep, embeddings):
    """Depends on all three; additions, products and quotients only, which round alike wherever they stand."""
    t = timestep[:, None, None, None]
    prompt = embeddings[:, 0, 0][:, None, None, None]
    return sample / (1 + np.abs(sample)) * (1 + t / 1000) + prompt


class FakeUnet:
    inputs: ClassVar = {
        "sample": TensorSpec("float32", (None, 4, None, None)),
        "timestep": TensorSpec("float32", (None,)),
        "encoder_hidden_states": TensorSpec("float32", (None, LENGTH, WIDTH)),
    }
    outputs: ClassVar = {"out_sample": TensorSpec("float32", (None, 4, None, None))}

    def __init__(self):
        self.rows = []

    def bind(self, buffers):
        self._buffers = buffers

    def run(self):
        given = [self._buffers[name].array for name in self.inputs]
        self.rows.append([array.copy() for array in given])
        self._buffers["out_sample"].array[:] = predict(*given)

    def close(self):
        pass


@pytest.fixture(scope="module", params=INSTALLED)
def runtime(request):
    return open_runtime(request.param)


@pytest.fixture(scope="module")
def step(runtime):
    return StepGraph(runtime, "float32")


def prompt(value):
    return np.full((LENGTH, WIDTH), value, np.float32)


def ancestral(steps):
    """A table that draws noise and has a memory, as none of the shipped samplers does both."""
    random = np.random.default_rng(steps)
    matrices = np.zeros((steps, SLOTS, COLUMNS))
    matrices[:, :3] = random.normal(size=(steps, 3, COLUMNS)) * 0.4
    matrices[:, :, 3:5] = 0
    matrices[steps % 3 :: 3, :, -1] = 0  # now one draws, now another
    matrices[-1, :, -1] = 0
    return SamplerTable(
        timesteps=np.linspace(900.5, 1.25, steps),
        steps=np.arange(steps),
        alphas=np.ones(steps),
        sigmas=np.linspace(9.0, 0.0, steps),
        c_in=np.linspace(0.1, 1.0, steps),
        matrices=matrices,
        denoised=random.normal(size=(steps, 2)),
        noisy=matrices[:, :, -1].any(axis=1),
        initial_scale=3.0,
    )


def told(embeddings):
    return {"encoder_hidden_states": embeddings}


def embeddings_of(sample, k):
    """What the rows of a sample are to be told in evaluation k."""
    rows = sample.conditions.rows
    for change, changed in sorted(sample.conditions.changes.items()):
        rows = changed if change <= k else rows
    return [row["encoder_hidden_states"] for row in rows]


def make_sample(table, rows, guidance, seed, changes=None):
    noise = NoiseGenerator(seed)
    latents = initial_latents(table, noise, SHAPE)
    conditions = Conditions(rows=rows, guidance=guidance, changes=changes or {})
    return Sample(table=table, conditions=conditions, latents=latents, noise=noise)


def make_samples():
    """Six that differ in everything: fresh ones at each call, since a noise stream is used up."""
    schedule = NoiseSchedule()
    settings = [
        (compile_sampler("ddim", schedule, 5), [prompt(-0.1), prompt(0.2)], [-6.5, 7.5]),
        (compile_sampler("euler", schedule, 9), [prompt(0.3)], [1.0]),
        (compile_sampler("dpmpp_2m_karras", schedule, 3), [prompt(0.0), prompt(0.1)], [-1.0, 2.0]),
        (compile_sampler("ddim", schedule, 1), [prompt(0.1), prompt(0.2), prompt(0.3)], [-2.0, 1.5, 1.5]),
        (ancestral(7), [prompt(0.1)], [1.0]),
        (ancestral(5), [prompt(-0.3), prompt(0.3)], [0.5, 0.5]),
    ]
    changes = {
        1: {2: [told(prompt(0.5))], 8: [told(prompt(-0.2))]},
        2: {7: [told(prompt(9.0))] * 2},  # after its last evaluation
        5: {2: [told(prompt(0.7)), told(prompt(-0.7))], 3: [told(prompt(0.7)), told(prompt(0.1))]},
    }
    return [
        make_sample(table, [told(row) for row in rows], weights, seed, changes.get(seed))
        for seed, (table, rows, weights) in enumerate(settings)
    ]


def denoise(runtime, step, samples, unet=None):
    denoising = Denoising(runtime, unet or FakeUnet(), step, samples, SHAPE)
    assert list(denoising) == list(range(1, denoising.evaluations + 1))
    return runtime.device.download(denoising.state)


def replay(sample):
    """The final state, in numpy and float64."""
    *_, (_, state) = states_of(sample)
    return state


def states_of(sample):
    """The prediction of each evaluation and the state that it is of, matrix by matrix; the last has none."""
    table = sample.table
    state = np.zeros((SLOTS, *SHAPE))
    state[0] = sample.latents
    replayed = zip(table.matrices, table.c_in, table.timesteps, table.noisy, strict=True)
    for k, (matrix, c_in, t, noisy) in enumerate(replayed):
        m = sum(
            weight * predict(c_in * state[:1], np.array([t]), row[None].astype(float))[0]
            for weight, row in zip(sample.conditions.guidance_at(k), embeddings_of(sample, k), strict=True)
        )
        yield m, state
        z = sample.noise.randn((1, *SHAPE))[0] if noisy else np.zeros(SHAPE)
        state = np.tensordot(matrix, np.stack([*state, m, z]), axes=1)
    yield None, state


def test_step_graph_is_the_matrices(runtime, step):
    for ours, sample in zip(make_samples(), make_samples(), strict=True):
        result, expected = denoise(runtime, step, [ours])[0], replay(sample)
        # float32 states over at most nine steps, with guidance weights of up to 7.5
        np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_predictions_are_those_of_the_tables(runtime, step):
    """Of samples that have other rows and end sooner than others; and looking at them changes nothing."""
    samples, download = make_samples(), runtime.device.download
    denoising = Denoising(runtime, FakeUnet(), step, samples, SHAPE)
    looks = [download(denoising.predict())[:, 0] for _ in denoising]
    np.testing.assert_array_equal(download(denoising.state), denoise(runtime, step, make_samples()))
    for b, sample in enumerate(make_samples()):
        states = [*states_of(sample)]
        table, (_, final) = sample.table, states[-1]
        for k, look in enumerate(looks):
            if k < table.evaluations:
                m, state = states[k]
                expected = table.denoised[k] @ [state[0].ravel(), m.ravel()]
            else:
                expected = final[0].ravel()
            # as of the states themselves
            np.testing.assert_allclose(look[b].ravel(), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_samples_do_not_depend_on_their_batch(runtime, step):
    together = denoise(runtime, step, make_samples())
    for b, sample in enumerate(make_samples()):
        np.testing.assert_array_equal(together[b], denoise(runtime, step, [sample])[0])
    backwards = denoise(runtime, step, make_samples()[::-1])
    np.testing.assert_array_equal(backwards[::-1], together)


@pytest.mark.parametrize("bad", range(6))
def test_nan_stays_in_its_sample(runtime, step, bad):
    good = denoise(runtime, step, make_samples())
    samples = make_samples()
    samples[bad].conditions.rows[0]["encoder_hidden_states"][:] = np.nan
    result = denoise(runtime, step, samples)
    assert np.isnan(result[bad, 0]).all()
    for b in set(range(len(samples))) - {bad}:
        np.testing.assert_array_equal(result[b], good[b])


class Failing(FakeUnet):
    """Gives one bad number in the row of a sample at an evaluation; before and after it makes none, ever."""

    def __init__(self, bad, value):
        super().__init__()
        self.bad, self.value = bad, value

    def run(self):
        with np.errstate(invalid="ignore"):
            super().run()
        out = self._buffers["out_sample"].array
        np.nan_to_num(out, copy=False, nan=0.5, posinf=1.0, neginf=-1.0)
        for row, evaluation in self.bad.items():
            if len(self.rows) - 1 == evaluation:
                out[row, 1, 2, 3] = self.value


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_bad_evaluation_of_each_picture_is_named(runtime, step, value):
    """Every sampler, beside pictures that stay good, with a network that recovers at once."""
    tables = [
        compile_sampler(name, NoiseSchedule(prediction_type=sampler.predictions[0]), 6)
        for name, sampler in SAMPLERS.items()
    ]
    samples = [make_sample(table, [told(prompt(0.1))], [1.0], seed) for seed, table in enumerate(tables)]
    bad = {b: b % table.evaluations for b, table in enumerate(tables) if b % 3}
    denoising = Denoising(runtime, Failing(bad, value), step, samples, SHAPE)
    list(denoising)
    finite = np.isfinite(runtime.device.download(denoising.state)).all(axis=(1, 2, 3, 4))
    assert [b for b, good in enumerate(finite) if not good] == list(bad)
    with pytest.raises(ComputeError) as error:
        denoising.check()
    message = str(error.value)
    for b, k in bad.items():
        timestep = np.float32(tables[b].timesteps[k])
        where = f"evaluation {k + 1} of {denoising.evaluations} (timestep {timestep:g})"
        assert any(f"{where} of the picture with seed {b}{end}" in message for end in ";.")
    assert message.count("the unet graph") == len(bad)


def test_a_picture_that_stands_still_can_be_spoilt(runtime, step):
    schedule = NoiseSchedule()
    samples = [
        make_sample(compile_sampler("euler", schedule, steps), [told(prompt(0.1))], [1.0], seed=steps)
        for steps in (3, 6)
    ]
    denoising = Denoising(runtime, Failing({0: 4}, np.nan), step, samples, SHAPE)
    list(denoising)
    with pytest.raises(ComputeError, match=r"evaluation 5 of 6 \(timestep .*\) of the picture with seed 3\."):
        denoising.check()


def test_pictures_without_fault_pass(runtime, step):
    denoising = Denoising(runtime, FakeUnet(), step, make_samples(), SHAPE)
    list(denoising)
    denoising.check()


def test_half_networks_are_guided_in_float32(runtime):
    """Neither sum fits FP16: 30 times the difference of predictions near its largest, 65504."""

    class Half(FakeUnet):
        inputs: ClassVar = {**FakeUnet.inputs, "sample": TensorSpec("float16", (None, 4, None, None))}
        outputs: ClassVar = {"out_sample": TensorSpec("float16", (None, 4, None, None))}

        def run(self):
            out = self._buffers["out_sample"].array
            self.rows.append(self._buffers["sample"].array.copy())
            out[0], out[1] = -60000, 60000

    unet = Half()
    matrices = np.zeros((2, SLOTS, COLUMNS))
    matrices[0, 0, 0] = matrices[0, 1, SLOTS] = 1.0  # keep the latents, remember the prediction
    matrices[1, 0, :2] = 1.0, 1e-7  # add what was remembered
    table = SamplerTable(
        timesteps=np.array([900.0, 1.0]),
        steps=np.arange(2),
        alphas=np.ones(2),
        sigmas=np.zeros(2),
        c_in=np.ones(2),
        matrices=matrices,
        denoised=np.tile([1.0, 0.0], (len(matrices), 1)),
        noisy=np.zeros(2, bool),
        initial_scale=1.0,
    )
    sample = make_sample(table, [told(prompt(0.0)), told(prompt(0.0))], [-29.0, 30.0], seed=0)
    denoising = Denoising(runtime, unet, StepGraph(runtime, "float16"), [sample], SHAPE)
    list(denoising)
    denoising.check()
    assert unet.rows[0].dtype == np.float16
    state = runtime.device.download(denoising.state)[0]
    guided = 59 * 60000.0  # 59.97 thousand in FP16, which has 60000 itself
    np.testing.assert_allclose(state[0], sample.latents + 1e-7 * guided, rtol=0, atol=1e-5)


def test_network_sees_each_samples_rows(runtime, step):
    unet, samples = FakeUnet(), make_samples()
    denoise(runtime, step, samples, unet)
    owners = [b for b, sample in enumerate(samples) for _ in sample.conditions.guidance]
    assert len(unet.rows) == max(sample.table.evaluations for sample in samples)
    for k, (sample, timestep, embeddings) in enumerate(unet.rows):
        assert len(sample) == len(owners)
        for row, b in enumerate(owners):
            table = samples[b].table
            last = table.evaluations - 1
            assert timestep[row] == np.float32(table.timesteps[min(k, last)])
            # all rows of a sample see the same latents
            np.testing.assert_array_equal(sample[row], sample[owners.index(b)])
        expected = [row for one in samples for row in embeddings_of(one, k)]
        np.testing.assert_array_equal(embeddings, expected)


def test_rows_without_weight_are_not_run(runtime, step):
    """Guidance in the middle of a run, beside a sample that is guided throughout; state passes through."""
    rows = [told(prompt(-0.2)), told(prompt(0.3))]
    table = ancestral(6)

    def make(reweighed, seed):
        noise = NoiseGenerator(seed)
        latents = initial_latents(table, noise, SHAPE)
        conditions = Conditions(rows=rows, guidance=[0.0, 1.0], reweighed=reweighed)
        return Sample(table=table, conditions=conditions, latents=latents, noise=noise)

    interval = {2: [-1.5, 2.5], 4: [0.0, 1.0]}
    unet = FakeUnet()
    both = denoise(runtime, step, [make(interval, 3), make({0: [-3.0, 4.0]}, 4)], unet)
    assert [len(evaluation[0]) for evaluation in unet.rows] == [3, 3, 4, 4, 3, 3]
    for result, sample in zip(both, (make(interval, 3), make({0: [-3.0, 4.0]}, 4)), strict=True):
        expected = replay(sample)
        np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_first_input_is_scaled_noise(runtime, step):
    unet = FakeUnet()
    table = compile_sampler("euler", NoiseSchedule(), 4)
    sample = make_sample(table, [told(prompt(0))], [1.0], seed=5)
    denoise(runtime, step, [sample], unet)
    noise = NoiseGenerator(5).randn((1, *SHAPE))
    expected = noise * table.initial_scale * table.c_in[0]
    np.testing.assert_allclose(unet.rows[0][0], expected, rtol=1e-6)


def test_noise_comes_from_the_samples_own_stream(runtime, step):
    """A sample that draws beside one that does not takes the numbers it takes alone."""
    states = []
    for others in ([], make_samples()[:2]):
        sample = make_sample(ancestral(6), [told(prompt(0))], [1.0], seed=9)
        states.append(denoise(runtime, step, [*others, sample])[-1])
    np.testing.assert_array_equal(*states)


def test_stale_memory_is_never_read(runtime, step, monkeypatch):
    """Buffers start with whatever lies in memory; NaN there must not come through."""
    expected = denoise(runtime, step, make_samples())
    empty = type(runtime.device).empty

    def filled(self, shape, dtype):
        buffer = empty(self, shape, dtype)
        if np.issubdtype(buffer.array.dtype, np.floating):
            buffer.array[...] = np.nan
        return buffer

    monkeypatch.setattr(type(runtime.device), "empty", filled)
    np.testing.assert_array_equal(denoise(runtime, step, make_samples()), expected)


def test_only_what_changes_is_uploaded(runtime, step, monkeypatch):
    uploaded = []
    upload = type(runtime.device).upload

    def spy(self, array, buffer):
        uploaded.append(array.shape)
        upload(self, array, buffer)

    monkeypatch.setattr(type(runtime.device), "upload", spy)
    samples = make_samples()
    rows = sum(len(sample.conditions.rows) for sample in samples)
    denoise(runtime, step, samples)
    # at first and before evaluations 2, 3, 7 and 8
    assert uploaded.count((rows, LENGTH, WIDTH)) == 5


def test_prompts_of_a_batch_are_equally_long(runtime, step):
    table = compile_sampler("euler", NoiseSchedule(), 4)
    longer = told(np.zeros((2 * LENGTH, WIDTH), np.float32))
    for other in (
        make_sample(table, [longer], [1.0], 0),
        make_sample(table, [told(prompt(0))], [1.0], 0, {2: [longer]}),
    ):
        short = make_sample(table, [told(prompt(0))], [1.0], 0)
        with pytest.raises(InputError, match="2 and 4 tokens long"):
            Denoising(runtime, FakeUnet(), step, [short, other], SHAPE)
