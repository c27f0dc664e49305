"""A small scenario, and sessions that answer at once, for tests of the measuring."""

from __future__ import annotations

import numpy as np

from sdrt_bench.peers import Generated, Work
from sdrt_bench.scenario import FidelitySettings, PeerSettings, Scenario


def scenario(**changes) -> Scenario:
    settings = {
        "title": "a test",
        "source": "demo",
        "prompt": "a red circle",
        "width": 64,
        "height": 64,
        "steps": 2,
        "sampler": "ddim",
        "guidance_scale": 2.0,
        "rounds": 2,
        "warm": 3,
        "reference": "right",
        "peers": {"right": PeerSettings(runner="diffusers"), "ours": PeerSettings(runner="sdrt")},
        "fidelity": FidelitySettings(prompts=("a red circle",)),
    }
    return Scenario(**{**settings, **changes})


class FakeSession:
    """A peer that takes the time it is told to. log: what it was asked, shared with the test.

    says: fields of `Generated` in place of those of a peer that tells everything, by sampler.
    """

    import_s = 1.5

    def __init__(
        self, log, *, seconds=0.2, evaluation=0.03, error=None, made=None, says=None, device_mb=None
    ):
        self.log, self.seconds, self.evaluation, self.error = log, seconds, evaluation, error
        self.made = made or {"pixels": np.zeros((1, 64, 64, 3), np.uint8), "latents": np.zeros((2, 4, 8, 8))}
        self.peak_mb = 100.0
        self.device_mb = device_mb
        self.versions = {"torch": "2.13.0"}
        self.says = says or {}

    def convert(self):
        self.log.append("convert")
        return 7.0

    def load(self):
        return 0.5

    def generate(self, job):
        self.log.append(job)
        if self.error is not None:
            raise self.error
        if job.keep is not None:
            np.savez(job.keep, **self.made)
        self.peak_mb += 1
        evaluations = (self.evaluation,) * job.steps
        told = {"seconds": self.seconds, "text": 0.01, "evaluations": evaluations, "vae": 0.02}
        return Generated(**{**told, **self.says.get(job.sampler, {})}), self.seconds + 1

    def work(self, job):
        return {"unet": Work(operations=3e9, traffic=1e8)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.append("end")
