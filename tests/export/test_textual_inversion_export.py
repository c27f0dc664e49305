"""Embeddings that become part of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from sdrt import manifest as manifests
from sdrt.errors import InputError
from sdrt.pipeline import Pipeline
from sdrt_export import export
from sdrt_export.sources import open_source
from sdrt_export.textual_inversion import with_embeddings

WIDTH, VOCABULARY = 32, 520
VECTORS = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0)) / 50
PROMPT = "the <thing>, red <Other>"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("embeddings")
    save_file({"<thing>": VECTORS[:2]}, folder / "thing.safetensors")
    torch.save({"string_to_param": {"*": VECTORS[2:]}, "name": "<other>"}, folder / "other.pt")
    return [folder / "thing.safetensors", folder / "other.pt"]


@pytest.fixture(scope="module")
def bundle(tiny: Path, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundles") / "with"
    return export(str(tiny), target, embeddings=[(file, None) for file in files], allow_pickle=True)


def test_the_picture_is_that_of_embeddings_at_load(
    tiny_bundle: Path, bundle: Path, files: list[Path]
) -> None:
    """Bit for bit: the graphs differ only in the rows of one table."""
    pictures = []
    for folder, embeddings in ((tiny_bundle, files), (bundle, [])):
        with Pipeline.load(folder, embeddings=embeddings, allow_pickle=True) as pipeline:
            (picture,) = pipeline.generate(PROMPT, seed=1, steps=2, width=64, height=64)
            pictures.append(picture.pixels)
    np.testing.assert_array_equal(*pictures)


def test_transformers_reads_the_words(tiny: Path, bundle: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(bundle / "tokenizer")
    ids = tokenizer.convert_tokens_to_ids(["<thing>", "<thing>_1", "<other>"])
    assert ids == list(range(VOCABULARY, VOCABULARY + 3))
    config = json.loads((bundle / "text_encoder" / "config.json").read_text())
    assert config["vocab_size"] == VOCABULARY + 3


def test_the_bundle_says_what_it_holds(bundle: Path, files: list[Path]) -> None:
    made = manifests.read(bundle / manifests.FILE_NAME)
    assert made.made_by.source.endswith("tiny + thing.safetensors + other.pt")
    # random ids of the new size were fed to the graph and to PyTorch
    assert all(trial.relative_l2 < 1e-5 for trial in made.graphs["text_encoder"].fidelity)


@pytest.mark.parametrize("counts", [(1, 1), (3, 2)])
def test_a_word_that_is_another_with_a_number(
    counts: tuple[int, int], tiny: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Each is found, at export, at load, and the second at load in a bundle that has the first."""
    generator = torch.Generator().manual_seed(1)
    files = []
    for token, count in zip(("style", "style_2"), counts, strict=True):
        files.append(tmp_path / f"{token}.safetensors")
        save_file({token: torch.randn(count, WIDTH, generator=generator) / 5}, files[-1])
    with_both = export(str(tiny), tmp_path / "both", embeddings=[(file, None) for file in files])
    ways: list[tuple[Path, list[Path]]] = [(with_both, []), (tiny_bundle, files), (tiny_bundle, files[::-1])]
    if counts[0] < 3:  # else its third vector has that name in the bundle
        first = export(str(tiny), tmp_path / "first", embeddings=[(files[0], None)])
        ways.append((first, files[1:]))
    pictures = []
    for folder, embeddings in ways:
        with Pipeline.load(folder, embeddings=embeddings) as pipeline:
            pictures.append(
                [
                    pipeline.generate(prompt, seed=1, steps=2, width=64, height=64)[0].pixels
                    for prompt in ("style", "style_2", "a style and style_2, red")
                ]
            )
    for others in pictures[1:]:
        for one, other in zip(pictures[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
    for prompt, file in zip(("<one>", "<two>"), files, strict=True):
        with Pipeline.load(tiny_bundle, embeddings=[(file, prompt)]) as pipeline:
            alone = pipeline.generate(prompt, seed=1, steps=2, width=64, height=64)[0].pixels
        np.testing.assert_array_equal(alone, pictures[0][files.index(file)])
    assert (pictures[0][0] != pictures[0][1]).any()


def test_more_words_can_be_added_at_load(bundle: Path, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="<thing> is a token of the model already"):
        Pipeline.load(bundle, embeddings=files[:1])
    with Pipeline.load(bundle, embeddings=[(files[0], "<again>")]) as pipeline:
        first, again = (
            pipeline.generate(prompt, seed=1, steps=2, width=64, height=64)[0].pixels
            for prompt in ("the <thing>", "the <again>")
        )
    np.testing.assert_array_equal(first, again)


def test_the_source_is_as_it_was(tiny: Path, files: list[Path]) -> None:
    from sdrt.textual_inversion import read_embedding

    checkpoint = open_source(str(tiny))
    extended = with_embeddings(checkpoint, [read_embedding(files[0])])
    assert extended.fingerprint != checkpoint.fingerprint
    assert len(checkpoint.tokenizers["tokenizer"]) == VOCABULARY
    name = "embeddings.token_embedding.weight"
    table, longer = (one.weights("text_encoder")[name] for one in (checkpoint, extended))
    torch.testing.assert_close(longer, torch.cat([table, VECTORS[:2]]), rtol=0, atol=0)
    assert extended.weights("unet") is checkpoint.weights("unet")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"<thing>": torch.ones(1, 768)}, "has vectors of width 768, the text_encoder of this model has 32"),
        ({"the": torch.ones(1, WIDTH)}, "the is a token of the model already"),
        ({"clip_l": torch.ones(1, WIDTH), "clip_g": torch.ones(1, WIDTH)}, "is for Stable Diffusion XL"),
        ({"<thing>": torch.ones(80, WIDTH)}, "has 80 vectors, the model reads 75 tokens at a time"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    tensors: dict[str, torch.Tensor], says: str, tiny: Path, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=rf"x\.safetensors.*{says}"):
        export(str(tiny), tmp_path / "bundle", embeddings=[(tmp_path / "x.safetensors", None)])
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_old_configs_do_not_name_the_end_token(tiny: Path, tmp_path: Path) -> None:
    """Their 2 makes transformers pool the largest id, which would be the word's."""
    folder = tmp_path / "old"
    folder.mkdir()
    for path in tiny.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "text_encoder").unlink()
    (folder / "text_encoder").mkdir()
    config = json.loads((tiny / "text_encoder" / "config.json").read_text())
    (folder / "text_encoder" / "config.json").write_text(json.dumps({**config, "eos_token_id": 2}))
    (folder / "text_encoder" / "model.safetensors").symlink_to(tiny / "text_encoder" / "model.safetensors")
    checkpoint = open_source(str(folder))
    end = checkpoint.tokenizers["tokenizer"].eos_token_id
    assert checkpoint.configs.text_encoders["text_encoder"]["eos_token_id"] == end == VOCABULARY - 1
    model = checkpoint.build("text_encoder")
    assert isinstance(model, CLIPTextModel)
    assert model.config.eos_token_id == end
