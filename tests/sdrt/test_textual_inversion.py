"""Words of embedding files: every layout, what a prompt finds, what a picture says, and what is refused."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt.metadata import parse_parameters
from sdrt.pipeline import Pipeline
from sdrt.textual_inversion import check_encoders, parse_option, read_embedding
from sdrt.tokenizer import PromptTokenizer

WIDTH = 128
VOCABULARY = 763  # of the demo model
TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}


def vectors(count, seed=0, width=WIDTH):
    """Of the size of those that the demo model has; exact in bfloat16, as whatever type they are saved in."""
    found = np.random.default_rng(seed).normal(0, 0.1, (count, width)).astype(np.float32)
    return (found.view(np.uint32) & 0xFFFF0000).view(np.float32)


def write(path, tensors, dtype="float32"):
    """https://github.com/huggingface/safetensors#format, by hand: numpy has no bfloat16."""
    header, content = {}, b""
    for name, array in tensors.items():
        if dtype == "bfloat16":
            array = (array.view(np.uint32) >> 16).astype(np.uint16)
        raw = array.astype(array.dtype if dtype == "bfloat16" else dtype).tobytes()
        offsets = [len(content), len(content) + len(raw)]
        header[name] = {"dtype": TYPES[dtype], "shape": array.shape, "data_offsets": offsets}
        content += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


@pytest.fixture
def tokenizer():
    return PromptTokenizer(DEMO / "tokenizer" / "tokenizer.json")


@pytest.fixture
def words(tokenizer):
    """Adds a word of so many ids and gives the ids of prompts, those of the vocabulary left out."""

    def add(token, ids, *prompts):
        tokenizer.add_word(token, ids, called="file")
        return [[id for id in tokenizer.tokens(prompt) if id >= VOCABULARY] for prompt in prompts]

    return add


class TestFiles:
    @pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
    @pytest.mark.parametrize("count", [1, 5])
    def test_one_named_tensor(self, dtype, count, tmp_path):
        file = write(tmp_path / "learned_embeds.safetensors", {"<cat-toy>": vectors(count)}, dtype)
        embedding = read_embedding(file)
        assert (embedding.token, embedding.count) == ("<cat-toy>", count)
        tolerance = 1e-3 if dtype == "float16" else 0
        np.testing.assert_allclose(
            embedding.vectors["text_encoder"], vectors(count), rtol=tolerance, atol=1e-7
        )
        assert embedding.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()

    @pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
    def test_eight_bits(self, dtype, tmp_path):
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file

        stored = torch.from_numpy(vectors(2)).to(getattr(torch, dtype))
        save_file({"<a>": stored}, tmp_path / "x.safetensors")
        found = read_embedding(tmp_path / "x.safetensors").vectors["text_encoder"]
        np.testing.assert_array_equal(found, stored.float().numpy())

    def test_one_vector_without_an_axis(self, tmp_path):
        embedding = read_embedding(write(tmp_path / "x.safetensors", {"<a>": vectors(1)[0]}))
        np.testing.assert_array_equal(embedding.vectors["text_encoder"], vectors(1))

    @pytest.mark.parametrize("key", ["emb_params", "*"])
    def test_a_file_that_names_no_word_is_its_name(self, key, tmp_path):
        assert read_embedding(write(tmp_path / "My Style.safetensors", {key: vectors(2)})).token == "My Style"

    def test_another_word(self, tmp_path):
        assert read_embedding(write(tmp_path / "x.safetensors", {"<a>": vectors(1)}), "<b>").token == "<b>"

    @pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
    def test_two_text_encoders(self, keys, tmp_path):
        both = {keys[0]: vectors(2, width=768), keys[1]: vectors(2, 1, width=1280)}
        embedding = read_embedding(write(tmp_path / "xl.safetensors", both))
        assert embedding.token == "xl"
        for encoder, array in zip(("text_encoder", "text_encoder_2"), both.values(), strict=True):
            np.testing.assert_array_equal(embedding.vectors[encoder], array)
        check_encoders(embedding, ["text_encoder", "text_encoder_2"])
        check_encoders(embedding, ["text_encoder_2"])
        with pytest.raises(
            InputError, match=r"xl\.safetensors is for Stable Diffusion XL, this model is not"
        ):
            check_encoders(embedding, ["text_encoder"])

    def test_one_text_encoder_is_not_enough_for_xl(self, tmp_path):
        embedding = read_embedding(write(tmp_path / "x.safetensors", {"<a>": vectors(1, width=768)}))
        with pytest.raises(InputError, match="no vectors for the text_encoder_2"):
            check_encoders(embedding, ["text_encoder", "text_encoder_2"])

    @pytest.mark.parametrize("name", ["a1111", None])
    def test_automatic1111_pickle(self, name, tmp_path):
        torch = pytest.importorskip("torch")
        saved = torch.nn.Parameter(torch.from_numpy(vectors(3)))
        extras = {"string_to_token": {"*": torch.tensor(265)}, "step": 500, "sd_checkpoint": None}
        torch.save({"string_to_param": {"*": saved}, "name": name, **extras}, tmp_path / "stem.pt")
        embedding = read_embedding(tmp_path / "stem.pt", allow_pickle=True)
        assert embedding.token == (name or "stem")
        np.testing.assert_array_equal(embedding.vectors["text_encoder"], vectors(3))

    def test_diffusers_pickle(self, tmp_path):
        torch = pytest.importorskip("torch")
        torch.save({"<a>": torch.from_numpy(vectors(1)[0]).half()}, tmp_path / "learned_embeds.bin")
        embedding = read_embedding(tmp_path / "learned_embeds.bin", allow_pickle=True)
        assert embedding.token == "<a>"
        np.testing.assert_allclose(embedding.vectors["text_encoder"], vectors(1), atol=1e-4)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("x.pt", ("x.pt", None)),
            ("x.pt:<a>", ("x.pt", "<a>")),
            ("a:b.pt:c", ("a:b.pt", "c")),
            ("C:\\x.pt", ("C:\\x.pt", None)),
            ("C:/x.pt", ("C:/x.pt", None)),
            ("C:\\x.pt:<a>", ("C:\\x.pt", "<a>")),
            (":x", (":x", None)),
        ],
    )
    def test_option(self, text, expected):
        file, token = parse_option(text)
        assert (str(file), token) == expected

    def test_option_that_is_a_file(self, tmp_path):
        (tmp_path / "a:b").touch()
        assert parse_option("a:b")[1] is None


class TestWords:
    @pytest.mark.parametrize("prompt", ["a <cat-toy>", "a <CAT-Toy>", "the<cat-toy>,", "(<cat-toy>:1.2)"])
    def test_brackets_are_found_anywhere(self, words, prompt):
        assert words("<Cat-Toy>", 1, prompt) == [[VOCABULARY]]

    def test_names_are_found_whole(self, words):
        prompts = ["Bad-Hands, style", "style,", "my  STYLE.", "lifestyle styles style_1", "<style>"]
        assert words("style", 1, *prompts) == [[763], [763], [763], [], [763]]

    def test_longer_names_come_first(self, words):
        words("bad-hands", 1)
        words("bad-hands-5", 1)
        assert words("hands", 1, "bad-hands", "bad-hands-5", "bad hands") == [[763], [764], [765]]

    def test_names_of_several_words(self, words):
        assert words("my style", 1, "in My  Style", "my own style") == [[763], []]

    def test_several_vectors(self, words, tokenizer):
        assert words("<a>", 3, "x <a> y <a>", "<a>_1") == [[763, 763], [764]]
        assert tokenizer.words == {763: (763, 764, 765)}
        words("<b>", 2)
        assert tokenizer.words == {763: (763, 764, 765), 766: (766, 767)}

    def test_other_prompts_keep_their_tokens(self, tokenizer):
        prompts = ["a large red circle", "it's 漢字 <b>", "style_1", ""]
        before = [tokenizer.tokens(prompt) for prompt in prompts]
        tokenizer.add_word("<a>", 2, called="file")
        assert [tokenizer.tokens(prompt) for prompt in prompts] == before

    @pytest.mark.parametrize(
        "token", ["circle", "CIRCLE", "red", "<|endoftext|>", "<|EndOfText|>", "x", "<A>", "<a>_1"]
    )
    def test_a_word_that_is_there(self, words, token):
        words("<a>", 2)
        with pytest.raises(InputError, match=r"file: \S+ is a token of the model already; .* file:TOKEN"):
            words(token, 1)

    @pytest.mark.parametrize("counts", [(1, 1), (2, 2), (3, 2), (5, 1), (2, 5)])
    @pytest.mark.parametrize("pair", [("style", "style_2"), ("<a>", "<A>_2"), ("<a>", "<a>_1")])
    @pytest.mark.parametrize("longer_first", [False, True])
    def test_a_word_that_is_another_with_a_number(self, longer_first, pair, counts, tokenizer, tmp_path):
        """As diffusers would call one more vector of the shorter one."""
        expected, first = {}, VOCABULARY
        for token, count in sorted(zip(pair, counts, strict=True), reverse=longer_first):
            ids = tokenizer.add_word(token, count, called="file", reserved=pair)
            expected[token] = tuple(range(first, first + count))
            assert tuple(ids) == expected[token]
            first += count
        short, long = pair
        tokenizer._tokenizer.save(str(tmp_path / "tokenizer.json"))
        for one in (tokenizer, PromptTokenizer(tmp_path / "tokenizer.json")):
            found = [id for id in one.tokens(f"a {short}, {long} {short}") if id >= VOCABULARY]
            assert found == [expected[token][0] for token in (short, long, short)]
            assert one.words == {ids[0]: ids for ids in expected.values() if len(ids) > 1}

    def test_a_word_that_goes_on_with_names_of_another(self, words, tokenizer):
        words("style", 1)
        words("style_", 3)
        words("style_1", 1)
        assert tokenizer.words == {764: (764, 765, 766)}

    def test_a_word_whose_second_vector_is_there(self, words, tokenizer):
        words("<b>_1", 1)
        assert words("<b>", 2, "<b> <b>_1") == [[764, 763]]
        assert tokenizer.words == {764: (764, 765)}


class TestPictures:
    def test_the_vector_of_a_word_is_that_word(self, tmp_path):
        """A new word with the vector of `red` gives the picture of `red`, bit for bit."""
        from sdrt.onnx_initializers import read_initializers
        from sdrt.textual_inversion import TABLE

        with Pipeline.load() as plain:
            (red,) = plain.generate("a large red circle", seed=1, steps=4)
            (id,) = plain._conditioner._encoders[0]._tokenizer.tokens("red")
        table = read_initializers(DEMO / "text_encoder/model.onnx")[TABLE].read()
        file = write(tmp_path / "x.safetensors", {"<rouge>": table[id].astype(np.float32)})
        with Pipeline.load(embeddings=[file]) as pipeline:
            (rouge,) = pipeline.generate("a large <Rouge> circle", seed=1, steps=4)
            (again,) = pipeline.generate("a large red circle", seed=1, steps=4)
        np.testing.assert_array_equal(rouge.pixels, red.pixels)
        np.testing.assert_array_equal(again.pixels, red.pixels)

    def test_a_lora_may_change_the_table_too(self, tmp_path):
        """Words and a LoRA that makes `blue` what `red` was: each has its rows."""
        from lora_files import write as write_lora

        from sdrt.onnx_initializers import read_initializers
        from sdrt.textual_inversion import TABLE

        with Pipeline.load() as plain:
            (red,) = plain.generate("a large red circle", seed=1, steps=4)
            encoder = plain._conditioner._encoders[0]._tokenizer
            (old,), (new,) = encoder.tokens("red"), encoder.tokens("blue")
        table = read_initializers(DEMO / "text_encoder/model.onnx")[TABLE].read().astype(np.float32)
        difference = np.zeros_like(table)
        difference[new] = table[old] - table[new]
        name = TABLE.removesuffix(".weight").replace(".", "_")
        lora = write_lora(tmp_path / "lora.safetensors", {f"lora_te_text_model_{name}.diff": difference})
        file = write(tmp_path / "x.safetensors", {"<rouge>": table[old]})
        with Pipeline.load(embeddings=[file], loras=[(lora, 1.0)]) as pipeline:
            for prompt in ("a large <rouge> circle", "a large blue circle"):
                (picture,) = pipeline.generate(prompt, seed=1, steps=4)
                np.testing.assert_array_equal(picture.pixels, red.pixels)

    def test_a_picture_names_its_embeddings(self, sdrt_main, tmp_path):
        one = write(tmp_path / "one.safetensors", {"<a, b>": vectors(2)})
        two = write(tmp_path / "two.safetensors", {"emb_params": vectors(1, 1)})
        result = sdrt_main(
            "generate", "<a, b> red new", "--steps", "1", "--seed", "1", "-o", "x.png", "--json",
            "--textual-inversion", str(one), "--textual-inversion", f"{two}:new",
        )  # fmt: skip
        assert result.code == 0, result.err
        texts = Image.open("x.png").text
        hashes = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in (one, two)}
        told = parse_parameters(texts["parameters"])
        assert told["TI hashes"] == f"<a, b>: {hashes[one][:12]}, new: {hashes[two][:12]}"
        expected = [
            {"token": "<a, b>", "file": "one.safetensors", "vectors": 2, "sha256": hashes[one]},
            {"token": "new", "file": "two.safetensors", "vectors": 1, "sha256": hashes[two]},
        ]
        assert json.loads(texts["sdrt"])["embeddings"] == expected
        assert json.loads(result.out)["embeddings"] == expected

    def test_a_picture_without_says_nothing(self, pipeline):
        (picture,) = pipeline.generate("red", steps=1, seed=1)
        assert "TI hashes" not in picture.texts["parameters"]


class TestFaults:
    """Each drives the program; no graph is opened and nothing is written."""

    @pytest.fixture(autouse=True)
    def closed(self, graphs_stay_closed):
        pass

    @pytest.fixture
    def refuses(self, refused):
        def refuses(option, *says, flags=()):
            return refused("generate", "red", "--textual-inversion", str(option), *flags, says=says)

        return refuses

    def test_nothing_there(self, refuses):
        refuses("absent.safetensors", "there is no embedding at absent.safetensors")
        refuses("absent.safetensors:<a>", "there is no embedding at absent.safetensors")
        refuses(".", "is a folder; give the embedding file in it")

    def test_another_kind_of_file(self, refuses, tmp_path):
        (tmp_path / "x.png").write_bytes(b"\x89PNG")
        refuses("x.png", "x.png is no embedding: expected .safetensors, .pt or .bin")
        (tmp_path / "x.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
        refuses("x.safetensors", "x.safetensors is a git-lfs pointer", "git lfs pull")
        (tmp_path / "x.safetensors").write_bytes(b"PK\x03\x04")
        refuses("x.safetensors", "x.safetensors is a pickle")
        with (tmp_path / "x.safetensors").open("wb") as file:
            file.truncate(200_000_000)
        refuses("x.safetensors", "too large for an embedding; is it a checkpoint or a LoRA?")

    @pytest.mark.parametrize("keep", [0, 7, 100, -1])
    def test_truncated(self, refuses, tmp_path, keep):
        path = write(tmp_path / "x.safetensors", {"<a>": vectors(1)})
        path.write_bytes(path.read_bytes()[:keep])
        refuses("x.safetensors", "x.safetensors", "download it again")

    @pytest.mark.parametrize("name", ["x.pt", "x.bin", "x.ckpt"])
    def test_pickles_are_read_only_where_that_is_asked_for(self, refuses, tmp_path, name):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
        refuses(name, f"{name} is a pickle; --allow-pickle")
        refuses(name, f"{name} is truncated", flags=["--allow-pickle"])

    @pytest.mark.parametrize(
        ("tensors", "dtype", "says"),
        [
            ({"a": vectors(1), "b": vectors(1)}, "float32", "it holds a, b and so on: expected one tensor"),
            ({"lora_unet_x.alpha": vectors(1), "y": vectors(1)}, "float32", "expected one tensor"),
            ({}, "float32", "it holds no named vectors"),
            ({"<a>": vectors(1) * np.nan}, "float32", "empty, NaN or infinite"),
            ({"<a>": vectors(0)}, "float32", "empty, NaN or infinite"),
            ({"<a>": vectors(4).reshape(2, 2, WIDTH)}, "float32", "are not vectors"),
            (
                {"<a>": vectors(1)},
                "int64",
                "<a> in x.safetensors is of type I64; sdrt reads F64, F32, F16, BF16",
            ),
        ],
    )
    def test_no_embedding(self, refuses, tmp_path, tensors, dtype, says):
        write(tmp_path / "x.safetensors", tensors, dtype)
        refuses("x.safetensors", "x.safetensors", says)

    def test_numbers_of_vectors_that_differ(self, refuses, tmp_path):
        write(tmp_path / "x.safetensors", {"clip_l": vectors(2), "clip_g": vectors(3)})
        refuses(
            "x.safetensors", "x.safetensors has different numbers of vectors for its text encoders: [2, 3]"
        )

    def test_for_another_model(self, refuses, tmp_path):
        write(tmp_path / "x.safetensors", {"<a>": vectors(1, width=768)})
        refuses(
            "x.safetensors", "x.safetensors has vectors of width 768, the text_encoder of this model has 128"
        )
        write(tmp_path / "x.safetensors", {"clip_l": vectors(1), "clip_g": vectors(1)})
        refuses("x.safetensors", "x.safetensors is for Stable Diffusion XL, this model is not")

    def test_a_word_longer_than_the_window(self, refuses, tmp_path):
        write(tmp_path / "x.safetensors", {"<a>": vectors(76)})
        refuses("x.safetensors", "x.safetensors has 76 vectors, the model reads 75 tokens at a time")

    def test_beyond_the_type_of_the_weights(self, refuses, tmp_path):
        write(tmp_path / "x.safetensors", {"<a>": np.full((1, WIDTH), 1e5, np.float32)})
        refuses("x.safetensors", "x.safetensors has numbers beyond float16")

    def test_a_token_that_exists(self, refuses, tmp_path):
        write(tmp_path / "x.safetensors", {"circle": vectors(1)})
        refuses(
            "x.safetensors", "x.safetensors: circle is a token of the model already", "x.safetensors:TOKEN"
        )
        refuses("x.safetensors:blue", "x.safetensors: blue is a token of the model already")

    @pytest.mark.parametrize("token", [" ", "a\nb", "\0"])
    def test_a_token_that_no_prompt_can_name(self, refuses, tmp_path, token):
        write(tmp_path / "x.safetensors", {"<a>": vectors(1)})
        refuses(f"x.safetensors:{token}", "x.safetensors is for", "which no prompt can name")

    def test_one_token_twice(self, refused, tmp_path):
        write(tmp_path / "x.safetensors", {"<a>": vectors(1)})
        write(tmp_path / "y.safetensors", {"<A>": vectors(1)})
        options = ["--textual-inversion", "x.safetensors", "--textual-inversion", "y.safetensors"]
        refused("generate", "red", *options, says=("y.safetensors: <A> is a token of the model already",))
