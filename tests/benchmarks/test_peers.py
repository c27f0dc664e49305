"""Peers that this environment need not have: fakes in their place, the absent path, other environments."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from PIL import Image

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt_bench import elsewhere
from sdrt_bench.made_whole import made_whole
from sdrt_bench.peers import Answer, Command, Job, PeerStart, child
from sdrt_bench.peers.classic_names import PREFIX, with_classic_names
from sdrt_bench.peers.process import PeerFailedError, PeerProcess

JOB = Job(prompt="a", seed=1, width=8, height=8, steps=2, sampler="ddim", guidance_scale=2.0)


def start(runner, **changes):
    return PeerStart(**{"runner": runner, "precision": "fp32", "backend": "", "model": "", **changes})


@pytest.mark.parametrize(
    "runner, module",
    [
        ("openvino-genai", "openvino_genai"),
        ("stable-diffusion-cpp", "stable_diffusion_cpp"),
        ("optimum", "optimum.onnxruntime"),
    ],
)
def test_a_peer_that_is_not_installed_is_absent_with_the_import_that_failed(runner, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"sdrt_bench.peers.{child.MODULES[runner]}", raising=False)
    answers = io.StringIO()
    child.serve(start(runner), [], answers)
    assert module in msgspec.json.decode(answers.getvalue(), type=Answer).absent


@pytest.fixture
def sd_cpp(monkeypatch):
    """The peer on a library that says what the real one (0.4.7) said."""
    library = SimpleNamespace(sd_log_callback=lambda hear: hear, heard=None, pointer=object(), asked={})
    library.says = "get sd version from file failed: 'x'\n"

    class StableDiffusion:
        def __init__(self, **settings):
            library.asked |= settings
            self.model = library.pointer
            if not library.pointer:
                library.heard(3, library.says.encode(), None)

        def generate_image(self, progress_callback, **settings):
            library.asked |= settings
            library.heard(1, b"get_learned_condition completed, taking 0.25s\n", None)
            for step, mean in ((0, 0.0), (1, 1.5), (2, 1.25)):
                progress_callback(step, 2, mean)
            library.heard(1, b"decode_first_stage completed, taking 2.50s\n", None)
            return [Image.new("RGB", (8, 8))] * settings["batch_count"]

    library.StableDiffusion = StableDiffusion
    library.sd_set_log_callback = lambda callback, _: setattr(library, "heard", callback)
    monkeypatch.setitem(sys.modules, "stable_diffusion_cpp", library)
    monkeypatch.delitem(sys.modules, "sdrt_bench.peers.stable_diffusion_cpp", raising=False)
    return library


def config_folder(folder, **config):
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return str(folder)


def test_stable_diffusion_cpp_tells_its_stages_and_is_not_compared(sd_cpp, tmp_path, monkeypatch):
    model = config_folder(tmp_path, prediction_type="v_prediction")
    peer = child.open_peer(start("stable-diffusion-cpp", model=model))
    clock = iter([0.0, 10.0, 11.5, 12.5, 20.0] * 2)  # the steps take 1.5 and 1 s; it tells their mean so far
    module = sys.modules["sdrt_bench.peers.stable_diffusion_cpp"]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    peer.load()
    generated, kept = peer.generate(JOB)
    assert (generated.seconds, generated.evaluations) == (20.0, (1.5, 1.0))
    assert (generated.text, generated.vae) == (0.25, 2.5)
    assert generated.uncompared and kept.pixels.shape == (1, 8, 8, 3)
    assert any("no ddim" in note and "euler" in note for note in generated.notes)
    assert (sd_cpp.asked["sample_method"], sd_cpp.asked["prediction"]) == ("euler", "v")
    generated, _ = peer.generate(msgspec.structs.replace(JOB, sampler="dpmpp_2m"))
    assert sd_cpp.asked["sample_method"] == "dpm++2m"
    assert not any("instead" in note for note in generated.notes)


def test_stable_diffusion_cpp_says_why_it_cannot_load(sd_cpp, tmp_path):
    sd_cpp.pointer = None
    peer = child.open_peer(start("stable-diffusion-cpp", model=config_folder(tmp_path)))
    with pytest.raises(RuntimeError, match="get sd version from file failed"):
        peer.load()
    sd_cpp.says = f"no version in '{tmp_path}'"
    answers, lines = io.StringIO(), [msgspec.json.encode(Command(do="load")).decode()]
    child.serve(start("stable-diffusion-cpp", model=str(tmp_path)), lines, answers)
    said = msgspec.json.decode(answers.getvalue().splitlines()[-1], type=Answer).error
    assert f"no version in '{tmp_path.name}'" in said, "without the folders of this machine"


@pytest.fixture
def genai(monkeypatch):
    """The peer on a library with the real one's (2026.4) names and units."""
    asked = {}

    class Text2ImagePipeline:
        def __init__(self, folder, device, **settings):
            asked.update(settings)

        def set_scheduler(self, scheduler):
            asked["scheduler"] = scheduler

        def generate(self, prompt, *, callback=None, **settings):
            asked.update(settings)
            for step in range(settings["num_inference_steps"]):
                if callback is not None:
                    callback(step, 2, SimpleNamespace(data=np.full((1, 4, 1, 1), step, np.float32)))
            return SimpleNamespace(data=np.zeros((1, 8, 8, 3), np.uint8))

        def get_performance_metrics(self):
            return SimpleNamespace(
                get_text_encoder_infer_duration=lambda: {"text_encoder": 7.0},
                get_vae_decoder_infer_duration=lambda: 3.0,
                raw_metrics=SimpleNamespace(unet_inference_durations=[6000.0, 5000.0]),
            )

    library = SimpleNamespace(
        Text2ImagePipeline=Text2ImagePipeline,
        TorchGenerator=lambda seed: ("torch", seed),
        Scheduler=SimpleNamespace(
            Type=SimpleNamespace(DDIM="DDIM", EULER_DISCRETE="EULER_DISCRETE", PNDM="PNDM"),
            from_config=lambda path, kind: kind,
        ),
    )
    monkeypatch.setitem(sys.modules, "openvino_genai", library)
    monkeypatch.delitem(sys.modules, "sdrt_bench.peers.openvino_genai", raising=False)
    return asked


def test_openvino_genai_starts_from_torchs_noise_and_tells_its_stages(genai, tmp_path):
    peer = child.open_peer(start("openvino-genai", precision="bf16", converted=str(tmp_path)))
    peer.load()
    generated, kept = peer.generate(msgspec.structs.replace(JOB, keep="file"))
    assert genai["INFERENCE_PRECISION_HINT"] == "bf16" and genai["generator"] == ("torch", 1)
    assert (generated.text, generated.evaluations, generated.vae) == (0.007, (0.006, 0.005), 0.003)
    assert generated.uncompared is None and not any("instead" in note for note in generated.notes)
    assert kept.latents[:, 0, 0, 0].tolist() == [0, 1]
    generated, _ = peer.generate(msgspec.structs.replace(JOB, sampler="dpmpp_2m"))
    assert genai["scheduler"] == "DDIM"
    assert "no dpmpp_2m" in generated.uncompared and generated.uncompared in generated.notes


def test_a_peer_that_converts_nothing_says_so(sd_cpp, tmp_path):
    answers = io.StringIO()
    lines = [msgspec.json.encode(Command(do="convert")).decode()]
    child.serve(start("stable-diffusion-cpp", model=str(tmp_path)), lines, answers)
    last = msgspec.json.decode(answers.getvalue().splitlines()[-1], type=Answer)
    assert "reads checkpoints as they are" in last.error


def header(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def test_text_encoders_get_the_prefix_that_older_programs_look_for(tmp_path):
    checkpoint, folder = tmp_path / "checkpoint", tmp_path / "classic"
    (checkpoint / "text_encoder").mkdir(parents=True)
    (checkpoint / "text_encoder" / "config.json").write_text("{}")
    (checkpoint / "model_index.json").write_text("{}")
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    text = json.dumps({"__metadata__": {"format": "pt"}, "final_layer_norm.bias": entry}).encode()
    weights = checkpoint / "text_encoder" / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", len(text)) + text + b"\1\2\3\4")

    assert with_classic_names(checkpoint, folder) == folder
    written = folder / "text_encoder" / "model.safetensors"
    names, data = header(written)
    assert names == {"__metadata__": {"format": "pt"}, f"{PREFIX}final_layer_norm.bias": entry}
    assert data == b"\1\2\3\4"
    assert (
        (folder / "model_index.json").read_text() == "{}" == (folder / "text_encoder/config.json").read_text()
    )
    assert with_classic_names(folder, tmp_path / "again") == folder, "it has the prefix"
    weights.unlink()
    assert with_classic_names(checkpoint, folder) == checkpoint, "nothing to rename"


def test_a_folder_that_fails_half_way_is_not_there(tmp_path):
    with pytest.raises(KeyError), made_whole(tmp_path / "made") as making:
        (making / "half").write_text("")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with made_whole(tmp_path / "made") as making:
        (making / "file").write_text("whole")
    assert (tmp_path / "made" / "file").read_text() == "whole"


@pytest.fixture
def bare_python(tmp_path):
    """Makes an interpreter that knows no installed sdrt. -S leaves out .pth files, so an editable one too."""

    def make(*folders):
        script = tmp_path / "python"
        path = ":".join(map(str, folders))
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" -S "$@"\n')
        script.chmod(0o755)
        return str(script)

    return make


def test_an_interpreter_that_cannot_run_a_peer_is_refused_with_the_mend(bare_python):
    with pytest.raises(InputError, match="pip install msgspec numpy"):
        elsewhere.check(bare_python())
    with pytest.raises(InputError, match="cannot run /no/such/python"):
        elsewhere.check("/no/such/python")


def test_a_peer_runs_where_sdrt_is_not_installed(bare_python, tmp_path):
    python = bare_python(Path(np.__file__).parents[1])
    elsewhere.check(python)
    with PeerProcess(start("sdrt", backend="onnxruntime", model=str(DEMO)), python) as peer:
        assert "onnxruntime" in peer.versions
        peer.load()
        generated, _ = peer.generate(
            msgspec.structs.replace(JOB, width=64, height=64, keep=str(tmp_path / "k.npz"))
        )
    assert len(generated.evaluations) == 2
    again = PeerProcess(start("sdrt", backend="onnxruntime", model=str(DEMO)), python)
    with again, pytest.raises(PeerFailedError, match="reads checkpoints"):
        again.convert()
