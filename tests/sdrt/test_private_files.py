"""What an earlier run left is believed only while nobody else can have changed it."""

from __future__ import annotations

import os
import time

import pytest

from sdrt import bundle as bundles
from sdrt import choice
from sdrt.bundle import Bundle
from sdrt.engines import RECORD, Engine, EngineFolder
from sdrt.errors import BundleError, EngineError, SdrtError
from sdrt.manifest import FILE_NAME
from sdrt.private_files import is_private, read_plain, write_private
from sdrt.profiles import Profile, Range
from sdrt.saved_graphs import SavedGraph
from sdrt.verified import VerifiedFiles, cache_folder

WEIGHTS = "unet/model.onnx.data"


@pytest.fixture
def record(tmp_path):
    return tmp_path / "cache" / "verified.json"


def opened(bundle, record):
    return Bundle.open(bundle, remembered=VerifiedFiles(record))


def edit_in_place(file, *, restore=True):
    """Another byte, with size, inode and both times as they were, as far as one can set them."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(before.st_size // 2)
        (byte,) = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))
    if restore:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = file.stat()
        same = ("st_size", "st_mtime_ns", "st_ino")
        assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


def test_an_edit_with_its_times_restored_is_noticed(bundle, record):
    opened(bundle, record)
    opened(bundle, record)
    time.sleep(0.02)  # a tick of the kernel's clock
    edit_in_place(bundle / WEIGHTS)
    with pytest.raises(BundleError, match="damaged"):
        opened(bundle, record)


def test_an_edit_of_a_saved_graph_is_noticed(tmp_path):
    saved = SavedGraph(folder=tmp_path / "graphs", digest="0" * 64, size=10)
    with saved.make({}) as making:
        (making / "graph").write_bytes(bytes(100))
    found = saved.find({})
    time.sleep(0.02)
    edit_in_place(found / "graph")
    assert saved.find({}) is None


def test_a_change_while_a_file_is_hashed_is_not_remembered(bundle, record, monkeypatch):
    sha256 = bundles.sha256

    def changing(file):
        digest = sha256(file)
        if file.name == "model.onnx.data" and file.parent.name == "unet":
            time.sleep(0.02)
            edit_in_place(file)
        return digest

    monkeypatch.setattr(bundles, "sha256", changing)
    opened(bundle, record)
    monkeypatch.undo()
    with pytest.raises(BundleError, match="damaged"):
        opened(bundle, record)


@pytest.mark.parametrize("who", ["group", "all", "folder"])
def test_a_record_that_others_can_write_is_not_believed(bundle, record, monkeypatch, who):
    opened(bundle, record)
    if who == "folder":
        record.parent.chmod(0o777)
    else:
        record.chmod(0o664 if who == "group" else 0o606)
    hashed = []
    monkeypatch.setattr(bundles, "sha256", lambda file: hashed.append(file.name) or "0" * 64)
    with pytest.raises(BundleError, match="damaged"):
        opened(bundle, record)
    assert hashed


def test_a_record_of_another_user_is_not_believed(bundle, record, monkeypatch):
    opened(bundle, record)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not VerifiedFiles(record)._files


def test_what_is_written_is_private_whatever_the_umask(bundle, record):
    before = os.umask(0)
    try:
        opened(bundle, record)
    finally:
        os.umask(before)
    assert is_private(record) and is_private(record.parent)
    assert VerifiedFiles(record).has(bundle / WEIGHTS, bundles.sha256(bundle / WEIGHTS))


@pytest.mark.parametrize("what", ["fifo", "folder", "deep", "device", "text", "list", "numbers", "huge"])
@pytest.mark.parametrize("name", ["verified.json", "choices.json", "engines.json"])
def test_rubbish_in_the_cache(sdrt_main, monkeypatch, tmp_path, what, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / "sdrt" / name
    path.parent.mkdir(parents=True, mode=0o700)
    if what == "fifo":
        os.mkfifo(path, 0o600)
    elif what == "folder":
        path.mkdir(mode=0o700)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "huge":
        with path.open("wb") as stream:
            stream.truncate(10**10)
    else:
        rubbish = {"deep": "[" * 10**6, "text": "\x00\xff", "list": "[1, [2]]", "numbers": '{"/a": 1e999}'}
        path.write_text(rubbish[what])
    started = time.perf_counter()
    result = sdrt_main("generate", "a cat", "--steps", "1", "-o", "x.png")
    assert (result.code, result.out, result.err) == (0, "x.png\n", "")
    assert time.perf_counter() - started < 10
    left = {file.name for file in path.parent.iterdir()} - {"graphs"}
    assert left <= {name, "verified.json"}
    choice.read()
    VerifiedFiles(path)


class TestEngines:
    @pytest.fixture
    def folder(self, bundle):
        folder = EngineFolder(bundle=bundle, kind="aoti", architecture="cpu", version="1")
        folder.path.mkdir()
        folder.write([])
        return folder

    def test_the_record_is_private_whatever_the_umask(self, folder):
        before = os.umask(0o002)
        try:
            folder.write([])
        finally:
            os.umask(before)
        assert is_private(folder.path / RECORD)

    @pytest.mark.parametrize("which", ["record", "folder"])
    def test_what_others_can_write_is_refused(self, folder, which):
        one = Range.at(1)
        engine = Engine(
            graph="unet",
            digest="d",
            profile=Profile(pictures=one, rows=one, height=one, width=one),
            inputs={},
            signature=({}, {}),
            settings={},
            layers={},
            file="unet.pt2",
            size=1,
            sha256="0" * 64,
        )
        folder.write([engine])
        (folder.path / "unet.pt2").write_bytes(b"x")
        (folder.path / RECORD if which == "record" else folder.path).chmod(0o777)
        with pytest.raises(EngineError, match=r"can be written by others.*chmod go-w"):
            folder.find("unet", "d")
        with pytest.raises(BundleError, match="is damaged"):  # trusted, so it goes on to look at the file
            folder.find("unet", "d", trusted=True)

    def test_a_pipe_is_no_record(self, folder):
        (folder.path / RECORD).unlink()
        os.mkfifo(folder.path / RECORD)
        with pytest.raises(BundleError, match="no plain file"):
            folder.read()


class TestNoHome:
    @pytest.fixture
    def homeless(self, monkeypatch):
        """No HOME, and nobody of this number in the list of users."""
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda number: (_ for _ in ()).throw(KeyError(number)))

    @pytest.mark.parametrize(
        "command", [("generate", "a cat", "--steps", "1"), ("doctor",), ("info", "demo")]
    )
    def test_works_without_a_cache(self, sdrt_main, homeless, command):
        result = sdrt_main(*command)
        assert (result.code, result.err) == (0, "")

    def test_what_was_to_be_kept_is_said(self, homeless):
        tuning = choice.Tuning(
            machine="m", graphs="g", width=64, height=64, date="", reference="r", trials=()
        )
        with pytest.raises(SdrtError, match="XDG_CACHE_HOME"):
            choice.remember(tuning)

    def test_a_relative_cache_is_none(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "sdrt"


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "x.json"
    write_private(path, b"1")
    assert read_plain(path, 10) == b"1"
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError):
        write_private(path, b"2")
    assert [file.name for file in path.parent.iterdir()] == ["x.json"]


def test_a_manifest_without_end(refused, bundle):
    with (bundle / FILE_NAME).open("wb") as stream:
        stream.truncate(10**9)
    refused("info", str(bundle), says=(FILE_NAME, "more than"))
