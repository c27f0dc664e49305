"""A device by way of PyTorch does what the pipeline expects of any; on the CPU that needs no GPU."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from sdrt.backends.host import HostDevice
from sdrt.errors import ComputeError

torch = pytest.importorskip("torch")

from sdrt.backends.torch_device import TorchDevice  # noqa: E402

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, no_gpu])]


@pytest.fixture(params=DEVICES)
def device(request):
    return TorchDevice(request.param)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4)])
def test_buffers_are_those_of_the_host(device, dtype, shape):
    values = np.random.default_rng(0).integers(0, 2, shape)
    ours, hosts = device.empty(shape, dtype), HostDevice().empty(shape, dtype)
    assert (ours.shape, ours.dtype) == (hosts.shape, hosts.dtype) == (shape, dtype)
    for where, buffer in ((device, ours), (HostDevice(), hosts)):
        where.upload(values.astype(dtype), buffer)
    device.synchronize()
    downloaded = device.download(ours)
    assert downloaded.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(downloaded, HostDevice().download(hosts))


def test_uploads_convert_and_broadcast(device):
    buffer = device.empty((2, 3), "float16")
    address = buffer.address
    device.upload(np.array([0.1, 0.2, 0.3]), buffer)
    np.testing.assert_array_equal(device.download(buffer), np.float16([[0.1, 0.2, 0.3]] * 2))
    assert buffer.address == address


def test_a_download_is_a_copy(device):
    buffer = device.empty((2,), "float32")
    device.upload(np.ones(2, np.float32), buffer)
    before = device.download(buffer)
    device.upload(np.zeros(2, np.float32), buffer)
    np.testing.assert_array_equal(before, 1)
    np.testing.assert_array_equal(device.download(buffer), 0)


def test_what_was_uploaded_may_be_written_over(device):
    buffer = device.empty((1000,), "float32")
    values = np.ones(1000, np.float32)
    device.upload(values, buffer)
    values[:] = 2
    np.testing.assert_array_equal(device.download(buffer), 1)


def test_moments(device):
    before = device.mark()
    device.upload(np.zeros(1000, np.float32), device.empty((1000,), "float32"))
    after = device.mark()
    device.synchronize()
    assert 0 <= device.seconds(before, after) < 60


def test_out_of_memory_says_how_much(device):
    with pytest.raises(ComputeError, match=r"out of memory: 4e\+09|out of memory: 4.* GB were wanted"):
        device.empty((10**9, 10**9), "float32")


def test_buffer_of_another_device(device):
    with pytest.raises(TypeError, match="HostBuffer is not in the memory of a PyTorch device"):
        device.download(HostDevice().empty((1,), "float32"))


def test_repeated_work_sees_what_was_written_since(device):
    """On CUDA: queued, then captured, then replayed."""
    x, y = device.empty((4,), "float32"), device.empty((4,), "float32")
    repeated = device.repeated(lambda: y.tensor.copy_(x.tensor * 2))
    for k in range(4):
        device.upload(np.full(4, k, np.float32), x)
        repeated.run()
        np.testing.assert_array_equal(device.download(y), 2 * k)
    assert repeated.captured == (device.name == "cuda")


def test_work_that_cannot_be_captured_still_runs(device, recwarn):
    x, y = device.empty((1,), "float32"), device.empty((1,), "float32")

    def work():
        y.tensor.fill_(float(x.tensor.item()))  # waits for the device, which a CUDA graph cannot

    repeated = device.repeated(work)
    for k in range(3):
        device.upload(np.full(1, k, np.float32), x)
        repeated.run()
        np.testing.assert_array_equal(device.download(y), k)
    assert not repeated.captured
    warnings = [str(one.message) for one in recwarn if "not captured" in str(one.message)]
    assert len(warnings) == (device.name == "cuda")


def test_work_is_queued_once_then_captured_and_let_go(monkeypatch):
    """The order of things on CUDA, over a stand-in for its graphs."""
    device, happened = TorchDevice("cpu"), []

    class Graph:
        def replay(self):
            happened.append("replayed")

    def capture(work):
        happened.append("captured")
        return Graph()

    monkeypatch.setattr(device, "capture", capture)
    memory = device.empty((1,), "float32").tensor
    freed = weakref.ref(memory)
    repeated = device.repeated(lambda memory=memory: happened.append("queued"))
    del memory
    for _ in range(3):
        repeated.run()
    assert happened == ["queued", "captured", "replayed", "replayed"]
    assert freed() is None  # addresses are all that a graph needs
