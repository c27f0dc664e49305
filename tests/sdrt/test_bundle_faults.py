"""Bundles that are damaged, unsafe or of another version are refused before anything of them is opened."""

from __future__ import annotations

import json
import os
import shutil

import onnx
import pytest

from sdrt import bundle as bundles
from sdrt.bundle import Bundle
from sdrt.errors import BundleError
from sdrt.manifest import FILE_NAME
from sdrt.verified import VerifiedFiles

pytestmark = pytest.mark.usefixtures("graphs_stay_closed")

GRAPH, WEIGHTS = "unet/model.onnx", "unet/model.onnx.data"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 4189696\n"


@pytest.fixture
def refuses(refused, bundle):
    """`sdrt generate` with the damaged bundle is refused."""

    def run(*says: str, program=None) -> str:
        program = {} if program is None else {"program": program}
        return refused("generate", "a cat", "-m", str(bundle), "--seed", "1", says=says, **program)

    return run


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, "text_encoder/model.onnx", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize(("keep", "says"), [(0, "empty"), (100, "truncated")])
def test_truncated_file(bundle, refuses, name, keep, says):
    os.truncate(bundle / name, keep)
    refuses(str(bundle / name), f"is {says}: {keep} of ", "export the bundle again")


def test_file_with_something_appended(bundle, refuses):
    with (bundle / GRAPH).open("ab") as stream:
        stream.write(b"more")
    refuses(str(bundle / GRAPH), "is too long")


@pytest.mark.parametrize("content", [b"", b"\x08", b"\x08\x0a\x3a\xff", b"not a graph", b"\x08" * 99])
def test_file_that_is_no_graph_though_its_hash_is_right(bundle, rehash, refuses, content):
    (bundle / GRAPH).write_bytes(content)
    rehash(GRAPH)
    refuses(str(bundle / GRAPH), "not an ONNX graph", "export the bundle again")


def flip_a_bit(file) -> None:
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        (byte,) = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH])
def test_flipped_bit(bundle, refuses, refused, sdrt_main, name):
    flip_a_bit(bundle / name)
    refuses(str(bundle / name), "is damaged", "SHA-256", "export the bundle again")
    refused("verify", str(bundle), says=(str(bundle / name), "is damaged"))


def test_fast_check_reads_no_contents(bundle, sdrt_main):
    flip_a_bit(bundle / WEIGHTS)
    result = sdrt_main("verify", str(bundle), "--fast")
    assert result.code == 0
    assert "sizes and headers" in result.out


def test_fast_check_sees_a_short_file(bundle, refused):
    os.truncate(bundle / WEIGHTS, 100)
    refused("verify", str(bundle), "--fast", says=(WEIGHTS, "truncated"))


def test_sound_bundle_passes(bundle, run_sdrt):
    result = run_sdrt("verify", str(bundle), "--json")
    assert result.code == 0
    files = [path for path in bundle.rglob("*") if path.is_file() and path.name != FILE_NAME]
    answer = json.loads(result.out)
    assert answer["ok"] is True
    assert answer["files"] == len(files)
    assert answer["bytes"] == sum(path.stat().st_size for path in files)


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that were hashed, in order."""
    names = []

    def sha256(file):
        names.append(file.name)
        return original(file)

    original = bundles.sha256
    monkeypatch.setattr(bundles, "sha256", sha256)
    return names


class TestRememberedCheck:
    @pytest.fixture
    def opened(self, bundle, tmp_path, hashed):
        """Open the bundle as a new process would, and return what was hashed for it."""

        def opened():
            hashed.clear()
            Bundle.open(bundle, remembered=VerifiedFiles(tmp_path / "cache" / "verified.json"))
            return list(hashed)

        return opened

    def test_unchanged_files_are_not_read_again(self, bundle, opened):
        assert sorted(opened()) == sorted(p.name for p in bundle.rglob("*.*") if p.name != FILE_NAME)
        assert opened() == []

    def test_touched_file_is_read_again(self, bundle, opened):
        opened()
        os.utime(bundle / WEIGHTS, ns=(0, 0))
        assert opened() == ["model.onnx.data"]
        assert opened() == []

    def test_replaced_file_is_read_again(self, bundle, opened):
        # same size, same modification time, another inode: cp -p over an earlier version
        opened()
        shutil.copy2(bundle / WEIGHTS, bundle / "new")
        (bundle / "new").replace(bundle / WEIGHTS)
        assert opened() == ["model.onnx.data"]

    def test_damage_after_a_check_is_seen(self, bundle, opened):
        opened()
        flip_a_bit(bundle / WEIGHTS)
        with pytest.raises(BundleError, match="damaged"):
            opened()

    def test_other_digest_in_the_manifest_is_not_remembered(self, bundle, opened, edit_manifest):
        opened()
        edit_manifest(lambda fields: fields["files"][WEIGHTS].update(sha256="0" * 64))
        with pytest.raises(BundleError, match="damaged"):
            opened()

    @pytest.mark.parametrize("content", ["", "[", "[1]", "null", '{"a": 1}', "\x00"])
    def test_damaged_memory_costs_one_more_check(self, tmp_path, opened, content):
        everything = opened()
        (tmp_path / "cache" / "verified.json").write_text(content)
        assert opened() == everything
        assert opened() == []

    def test_damage_is_not_remembered_as_sound(self, bundle, opened):
        flip_a_bit(bundle / WEIGHTS)
        for _ in range(2):
            with pytest.raises(BundleError, match="damaged"):
                opened()


def test_generate_remembers(bundle, sdrt_main, hashed):
    # the graphs are replaced by a failing fixture, so the run ends in an error after the check
    sdrt_main("generate", "a cat", "-m", str(bundle))
    assert "model.onnx.data" in hashed
    hashed.clear()
    sdrt_main("generate", "a cat", "-m", str(bundle))
    assert hashed == []


class TestExternalData:
    @pytest.fixture
    def point_at(self, bundle, rehash):
        """Let the first tensor of the U-Net be read from another place, and the hashes agree."""

        def point_at(location: str) -> None:
            model = onnx.load(bundle / GRAPH, load_external_data=False)
            tensor = next(t for t in model.graph.initializer if t.external_data)
            next(entry for entry in tensor.external_data if entry.key == "location").value = location
            (bundle / GRAPH).write_bytes(model.SerializeToString())
            rehash(GRAPH)

        return point_at

    @pytest.mark.parametrize(
        "location", ["/etc/hostname", "../tokenizer/tokenizer.json", "x/../../../secret", "..", "/"]
    )
    def test_outside_the_bundle(self, refuses, point_at, location):
        point_at(location)
        refuses(GRAPH, repr(location), "outside the bundle; refused")

    @pytest.mark.parametrize("location", ["other.data", "", "*/_ORT_MEM_ADDR_/*", "a\nb"])
    def test_file_that_the_manifest_does_not_name(self, refuses, point_at, location):
        point_at(location)
        refuses(GRAPH, repr(location), "which the manifest does not name")

    def test_missing(self, bundle, refuses):
        (bundle / WEIGHTS).unlink()
        refuses(str(bundle / WEIGHTS), "is missing; export the bundle again")

    def test_missing_in_the_manifest(self, refuses, edit_manifest):
        edit_manifest(lambda fields: fields["files"].pop(WEIGHTS))
        refuses(GRAPH, "model.onnx.data", "which the manifest does not name")

    def test_symbolic_link(self, bundle, refuses):
        (bundle / WEIGHTS).rename(bundle.parent / "weights")
        (bundle / WEIGHTS).symlink_to(bundle.parent / "weights")
        refuses(str(bundle / WEIGHTS), "is a symbolic link", "cp -rL")

    def test_symbolic_link_on_the_way(self, bundle, refuses):
        (bundle / "unet").rename(bundle.parent / "unet")
        (bundle / "unet").symlink_to(bundle.parent / "unet")
        refuses(str(bundle / "unet"), "is a symbolic link", "cp -rL")

    def test_hard_link(self, bundle, refuses):
        os.link(bundle / WEIGHTS, bundle.parent / "another-name")
        refuses(str(bundle / WEIGHTS), "is a hard link", "cp -r")

    def test_folder_in_place_of_the_file(self, bundle, refuses):
        (bundle / WEIGHTS).unlink()
        (bundle / WEIGHTS).mkdir()
        refuses(str(bundle / WEIGHTS), "is not a plain file")

    def test_named_pipe_in_place_of_the_file(self, bundle, refuses):
        (bundle / WEIGHTS).unlink()
        os.mkfifo(bundle / WEIGHTS)
        with pytest.raises(BundleError, match="is not a plain file"):
            Bundle.open(bundle)

    def test_graph_under_a_name_that_hides_it(self, bundle, refuses, point_at, rehash, edit_manifest):
        # the name does not end in .onnx, so it must not escape the look at its external data
        point_at("/etc/hostname")
        (bundle / GRAPH).rename(bundle / "unet/model.bin")
        rehash("unet/model.bin")

        def hide(fields):
            del fields["files"][GRAPH]
            fields["graphs"]["unet"]["path"] = "unet/model.bin"

        edit_manifest(hide)
        refuses("unet/model.bin", ".onnx")


@pytest.mark.parametrize(
    ("name", "says"),
    [("../outside.onnx", "is not among the manifest's files"), ("unet/config.json", "is not named .onnx")],
)
def test_graph_of_one_backend_is_held_to_the_same(bundle, refuses, edit_manifest, name, says):
    edit_manifest(lambda fields: fields["graphs"]["unet"].update(onnxruntime=name))
    refuses(name, says)


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside", "unet/../../outside", "a\\b", "", "."])
def test_manifest_that_names_a_file_outside(bundle, refuses, edit_manifest, name):
    (bundle.parent / "outside").write_text("x")
    edit_manifest(lambda fields: fields["files"].update({name: {"size": 1, "sha256": "0" * 64}}))
    refuses(str(bundle), repr(name), "outside the bundle")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nul\0", "'nul\\x00' holds the character NUL"),
        ("\ud800", "'\\ud800' holds a lone surrogate"),
        ("x" * 300, "is missing"),
        ("unet/model.onnx/x", "is missing"),
    ],
)
def test_manifest_that_names_no_possible_file(bundle, refuses, edit_manifest, name, says):
    edit_manifest(lambda fields: fields["files"].update({name: {"size": 1, "sha256": "0" * 64}}))
    refuses(str(bundle), says)


class TestManifest:
    @pytest.mark.parametrize("schema", [0, 1, 99, "2", None])
    def test_other_version(self, bundle, refuses, edit_manifest, schema):
        edit_manifest(lambda fields: fields.update(schema=schema))
        refuses(FILE_NAME, f"schema {schema!r}", "this sdrt reads schema 2", "export the bundle again")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda fields: fields.update(colour="red"), "colour"),
            (lambda fields: fields["defaults"].update(colour="red"), "colour"),
            (lambda fields: fields["schedule"].update(trained_betas=[0.1]), "trained_betas"),
            (lambda fields: fields["graphs"].update(refiner=fields["graphs"]["unet"]), "refiner"),
            (lambda fields: fields.pop("vae"), "vae"),
            (lambda fields: fields.update(family="stable-diffusion-9"), "stable-diffusion-9"),
            (lambda fields: fields["defaults"].update(width="wide"), "width"),
            (lambda fields: fields["schedule"].update(prediction_type="score"), "score"),
        ],
    )
    def test_field_that_is_not_understood(self, refuses, edit_manifest, change, says):
        edit_manifest(change)
        refuses(FILE_NAME, "is not a valid manifest", says)

    @pytest.mark.parametrize(
        ("given", "taken", "told", "says"),
        [
            (None, [None, 64, None, None], "timestep", "does not give the deep_features"),
            ([None, 64, None, None], None, "timestep", "does not give the deep_features"),
            ([None, 64, None, None], [None, 32, None, None], "timestep", "does not give the deep_features"),
            ([None, 64, None, None], [None, 64, None, None], "text_embeds", "text_embeds"),
        ],
    )
    def test_graphs_of_a_unet_that_do_not_fit(self, refuses, edit_manifest, given, taken, told, says):
        def change(fields):
            unet = fields["graphs"]["unet"]
            shallow = {**unet, "inputs": {told: {"dtype": "float32", "shape": [None]}}}
            for specs, shape in ((unet["outputs"], given), (shallow["inputs"], taken)):
                if shape is not None:
                    specs["deep_features"] = {"dtype": "float32", "shape": shape}
            fields["graphs"]["unet_shallow"] = shallow

        edit_manifest(change)
        refuses(FILE_NAME, "is not a valid manifest", "unet_shallow", says)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "not JSON", '{"schema": 2, "schema": 2}', "[" * 100_000, '{"a":' * 100_000, "{} {}"],
        ids=["empty", "half", "words", "twice", "deep list", "deep object", "two"],
    )
    def test_not_json(self, bundle, refuses, text):
        (bundle / FILE_NAME).write_text(text)
        refuses(FILE_NAME, "is not a valid manifest", "export the bundle again")

    def test_duplicate_key_is_named(self, bundle, refuses):
        text = (bundle / FILE_NAME).read_text()
        (bundle / FILE_NAME).write_text(text.replace('"defaults"', '"vae": {}, "defaults"'))
        refuses("'vae' stands in it twice")

    def test_not_utf8(self, bundle, refuses):
        (bundle / FILE_NAME).write_bytes(b'{"schema": 1, "name": "\xff"}')
        refuses("cannot read", FILE_NAME)

    def test_absent(self, bundle, refuses):
        (bundle / FILE_NAME).unlink()
        refuses(str(bundle), "no bundle", f"has no {FILE_NAME}", "sdrt export")

    @pytest.mark.parametrize("values", [[], 1, "x", None])
    def test_not_an_object(self, bundle, refuses, values):
        (bundle / FILE_NAME).write_text(json.dumps(values))
        refuses(FILE_NAME, "schema None")

    def test_graph_that_is_not_among_the_files(self, refuses, edit_manifest):
        edit_manifest(lambda fields: fields["graphs"]["unet"].update(path="unet/other.onnx"))
        refuses("unet/other.onnx", "export it again")

    @pytest.mark.parametrize("value", [0, -8])
    @pytest.mark.parametrize("field", ["scale_factor", "latent_channels"])
    def test_impossible_numbers(self, refuses, edit_manifest, field, value):
        edit_manifest(lambda fields: fields["vae"].update({field: value}))
        refuses(FILE_NAME, field)


class TestGitLfs:
    @pytest.mark.parametrize("name", [WEIGHTS, GRAPH, FILE_NAME, "tokenizer/tokenizer.json"])
    @pytest.mark.parametrize("command", ["generate", "verify"])
    def test_pointer(self, bundle, refused, name, command):
        (bundle / name).write_text(LFS_POINTER)
        args = ["generate", "a cat", "-m", str(bundle)] if command == "generate" else ["verify", str(bundle)]
        refused(*args, says=(str(bundle / name), "is a git-lfs pointer", "git lfs pull"))

    def test_info(self, bundle, refused):
        (bundle / FILE_NAME).write_text(LFS_POINTER)
        refused("info", str(bundle), says=(FILE_NAME, "git lfs pull"))


def test_in_a_process_of_its_own(bundle, refuses, run_sdrt):
    flip_a_bit(bundle / WEIGHTS)
    refuses(str(bundle / WEIGHTS), "is damaged", program=run_sdrt)
