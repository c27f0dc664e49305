"""Ids of the Hugging Face hub as sources: what is downloaded, what works offline, what is said otherwise."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from hub_cache import COMMIT, write_cached
from huggingface_hub import constants, errors
from safetensors.torch import load_file, save_file

from sdrt import manifest
from sdrt.errors import ExportError, InputError, SdrtError
from sdrt_export.hub import find_snapshot, is_hub_id
from sdrt_export.sources import open_source

REPO = "somebody/tiny"
UNET = "unet/diffusion_pytorch_model.safetensors"
UNET_FP16 = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that huggingface_hub uses."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """No socket can be made; every attempt is noted here."""
    attempts: list[object] = []

    def refuse(*arguments: object, **options: object) -> None:
        attempts.append(arguments)
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "copy")


class Hub:
    """A hub that serves a folder as REPO, and notes what is downloaded."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.downloaded: list[str] = []
        self.tokens: set[str | None] = set()

    def model_info(self, repo_id: str, **options: Any) -> SimpleNamespace:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return SimpleNamespace(
            sha=COMMIT,
            siblings=[
                SimpleNamespace(rfilename=path.relative_to(self.folder).as_posix(), size=path.stat().st_size)
                for path in files
            ],
        )

    def download(self, repo_id: str, name: str, *, revision: str | None, token: str | None) -> str:
        assert repo_id == REPO
        target = self.cache / COMMIT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / name, target)
        self.downloaded.append(name)
        self.tokens.add(token)
        return str(target)


@pytest.fixture
def hub(copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(copy, cache)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    return hub


def refusing(monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]) -> None:
    """Let the hub answer with an error."""

    def refuse(*_: object, **__: object) -> None:
        raise error()

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)


def answer(kind: type[Exception], status: int) -> Callable[[], Exception]:
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return lambda: kind(f"{status} Client Error\n\nmore", response=response)  # type: ignore[call-arg]


def message(call: Callable[[], object], kind: type[SdrtError] = ExportError) -> str:
    with pytest.raises(kind) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("source", ["a/b", "stabilityai/sdxl-turbo", "gpt2", "a.b/c_d-1.5"])
def test_ids(source: str) -> None:
    assert is_hub_id(source)


@pytest.mark.parametrize(
    "source",
    [
        "./a/b",
        "../b",
        "/a/b",
        "~/a",
        "a/b/c",
        "a/b/",
        "random:sd15",
        "a/b.safetensors",
        "model.ckpt",
        "a b",
        "",
    ],
)
def test_paths_and_files_are_no_ids(source: str) -> None:
    assert not is_hub_id(source)


def test_what_is_there_as_a_path_is_no_id(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, calls: list[object]
) -> None:
    monkeypatch.chdir(tiny.parent.parent)
    source = f"{tiny.parent.name}/{tiny.name}"
    assert open_source(source).source == source
    assert not calls, "a local folder needs no network"


def test_cached_repository_is_exported_offline(tiny: Path, tmp_path: Path) -> None:
    """The real program, with HF_HUB_OFFLINE=1 and no sockets; the manifest names the commit."""
    write_cached(tiny, tmp_path / "cache", REPO)
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, sys\n"
        "def refuse(*_, **__): sys.stderr.write('NETWORK\\n'); raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "sdrt", "export", REPO],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=_environment(tmp_path),
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "NETWORK" not in result.stderr
    made_by = manifest.read(tmp_path / "engines" / "tiny" / "sdrt.json").made_by
    assert (made_by.source, made_by.revision) == (REPO, COMMIT)


def _environment(folder: Path) -> dict[str, str]:
    import os

    paths = [str(folder), *(path for path in sys.path if path)]
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def test_offline_and_not_cached_says_how_to_get_it(
    tiny: Path, cache: Path, offline: None, calls: list[object]
) -> None:
    said = message(lambda: open_source(REPO))
    assert "HF_HUB_OFFLINE" in said and f"hf download {REPO} --include" in said
    write_cached(tiny, cache, REPO, leave_out=(UNET, "vae/config.json", "tokenizer/merges.txt"))
    said = message(lambda: open_source(REPO, revision="main"))
    assert f"hf download {REPO} --revision main vae/config.json {UNET}" in said
    assert not calls, "HF_HUB_OFFLINE=1 allows no network"


def test_offline_names_the_variant_that_is_missing(tiny: Path, cache: Path, offline: None) -> None:
    write_cached(tiny, cache, REPO)
    said = message(lambda: open_source(REPO, variant="fp16"))
    assert said.endswith(
        f"hf download {REPO} text_encoder/model.fp16.safetensors {UNET_FP16} "
        "vae/diffusion_pytorch_model.fp16.safetensors"
    )


def test_offline_names_missing_shards(copy: Path, cache: Path, offline: None) -> None:
    weights = load_file(copy / UNET)
    (copy / UNET).unlink()
    names = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    save_file(weights, copy / "unet" / names[0], {"format": "pt"})
    index = {"weight_map": dict.fromkeys(weights, names[0]) | {"conv_in.weight": names[1]}}
    (copy / f"{UNET}.index.json").write_text(json.dumps(index))
    write_cached(copy, cache, REPO)
    assert message(lambda: open_source(REPO)).endswith(f"hf download {REPO} unet/{names[1]}")


def test_other_revision_than_the_cached_one_is_missing(tiny: Path, cache: Path, offline: None) -> None:
    write_cached(tiny, cache, REPO)
    assert find_snapshot(REPO, revision=COMMIT).revision == COMMIT
    assert "--revision v2" in message(lambda: find_snapshot(REPO, revision="v2"))


def test_without_network_what_is_cached_works(tiny: Path, cache: Path, calls: list[object]) -> None:
    snapshot = write_cached(tiny, cache, REPO)
    found = find_snapshot(REPO)
    assert calls, "the hub was not asked whether there is something newer"
    assert (found.folder.resolve(), found.revision) == (snapshot.resolve(), COMMIT)
    shutil.rmtree(cache)
    said = message(lambda: find_snapshot(REPO))
    assert "cannot be reached" in said and "hf download" in said


def test_only_what_is_needed_is_downloaded(hub: Hub) -> None:
    for name in (
        "unet/diffusion_pytorch_model.bin",
        "v1-5-pruned.safetensors",
        "safety_checker/model.safetensors",
    ):
        (hub.folder / name).parent.mkdir(exist_ok=True)
        (hub.folder / name).write_bytes(b"x")
    shutil.copyfile(hub.folder / UNET, hub.folder / UNET_FP16)
    lines: list[str] = []
    checkpoint = open_source(REPO, token="secret", progress=lines.append)
    assert "conv_in.weight" in checkpoint.weights("unet")
    assert checkpoint.revision == COMMIT
    assert set(hub.downloaded) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        UNET,
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert hub.tokens == {"secret"} and not any("secret" in line for line in lines)
    assert any(line.startswith(f"downloading {UNET} (") and line.endswith(" MB)") for line in lines)
    hub.downloaded.clear()
    open_source(REPO)
    assert hub.downloaded == ["model_index.json"], "files that are cached were downloaded again"


def test_variant_is_downloaded_where_there_is_one(hub: Hub) -> None:
    """As in diffusers, components that have no such variant give their plain files."""
    weights = load_file(hub.folder / UNET)
    weights["conv_in.bias"] = weights["conv_in.bias"] + 1
    save_file(weights, hub.folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors", {"format": "pt"})
    read = open_source(REPO, variant="non_ema").weights("unet")
    assert (read["conv_in.bias"] == weights["conv_in.bias"]).all()
    assert UNET not in hub.downloaded and "text_encoder/model.safetensors" in hub.downloaded
    assert "it has non_ema" in message(lambda: open_source(REPO, variant="fp16"))


def test_shards_are_downloaded(hub: Hub) -> None:
    weights = load_file(hub.folder / UNET)
    (hub.folder / UNET).unlink()
    names = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    halves = (sorted(weights)[::2], sorted(weights)[1::2])
    for shard, half in zip(names, halves, strict=True):
        save_file({name: weights[name] for name in half}, hub.folder / "unet" / shard, {"format": "pt"})
    index = {"weight_map": {name: shard for shard, half in zip(names, halves, strict=True) for name in half}}
    (hub.folder / f"{UNET}.index.json").write_text(json.dumps(index))
    read = open_source(REPO).weights("unet")
    assert all((read[name] == value).all() for name, value in weights.items())


def test_repositories_that_cannot_be_exported(hub: Hub) -> None:
    (hub.folder / UNET).rename(hub.folder / "unet" / "diffusion_pytorch_model.bin")
    assert "pickled" in message(lambda: open_source(REPO))
    (hub.folder / "vae" / "config.json").unlink()
    (hub.folder / "unet" / "diffusion_pytorch_model.bin").rename(hub.folder / UNET)
    assert f"{REPO} has no vae/config.json" in message(lambda: open_source(REPO))
    (hub.folder / "model_index.json").unlink()
    assert "expected a repository in diffusers layout" in message(lambda: open_source(REPO))
    (hub.folder / "model.ckpt").touch()
    assert "only pickled weights" in message(lambda: open_source(REPO))
    (hub.folder / "dream.safetensors").touch()
    assert f"hf download {REPO} dream.safetensors" in message(lambda: open_source(REPO))
    assert not any(name.endswith((".bin", ".ckpt", "dream.safetensors")) for name in hub.downloaded)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer(errors.RepositoryNotFoundError, 404), InputError, "hf auth login"),
        (answer(errors.GatedRepoError, 403), ExportError, "accept its licence at https://"),
        (answer(errors.RevisionNotFoundError, 404), InputError, "no revision 'v9'"),
        (answer(errors.HfHubHTTPError, 401), ExportError, "token is wrong"),
        (answer(errors.HfHubHTTPError, 503), ExportError, "does not serve"),
        (answer(errors.HfHubHTTPError, 400), ExportError, "400 Client Error"),
        (lambda: errors.HFValidationError("too long"), InputError, "too long"),
        (lambda: OSError(28, "No space left on device"), ExportError, "HF_HOME"),
        (lambda: TimeoutError("timed out"), ExportError, "timed out"),
    ],
)
def test_errors_of_the_hub_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    error: Callable[[], Exception],
    kind: type[SdrtError],
    words: str,
) -> None:
    refusing(monkeypatch, error)
    said = message(lambda: open_source(REPO, revision="v9"), kind)
    assert words in said


def test_options_of_the_hub_are_refused_elsewhere(tiny: Path) -> None:
    assert "--revision" in message(lambda: open_source(str(tiny), revision="main"), InputError)
    assert "--token" in message(lambda: open_source("demo", token="secret"), InputError)
    assert "--variant" in message(lambda: open_source("random:sd15", variant="fp16"), InputError)
    assert "it has none" in message(lambda: open_source(str(tiny), variant="fp16"))
