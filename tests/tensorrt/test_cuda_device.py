"""The CUDA device over memory that is none of a GPU's: who owns what, until when, and what failures say."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
from fake_cuda import FakeCuda, cudaError_t, install

from sdrt.backends.cuda import CudaDevice
from sdrt.backends.host import HostDevice
from sdrt.errors import BackendUnavailableError, ComputeError, MissingExtraError

MB = 2**20


@pytest.fixture
def device(cuda) -> CudaDevice:
    return CudaDevice()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 5, 4, 8, 8)])
def test_what_goes_up_comes_down(device, dtype, shape):
    array = np.asarray(np.random.default_rng(0).integers(0, 2, shape), dtype)
    buffer = device.empty(shape, dtype)
    assert (buffer.shape, buffer.dtype) == (shape, dtype)
    device.upload(array, buffer)
    np.testing.assert_array_equal(device.download(buffer), array)
    assert device.download(buffer).dtype == dtype


def test_converts_what_it_uploads(device):
    buffer = device.empty((2, 3), "float16")
    device.upload(np.asfortranarray(np.arange(6.0).reshape(2, 3)), buffer)
    np.testing.assert_array_equal(device.download(buffer), [[0, 1, 2], [3, 4, 5]])


def test_array_may_change_after_upload(cuda, device):
    """Copies are queued: here they happen as late as they can."""
    buffers = [device.empty((1000,), "float32") for _ in range(50)]
    array = np.zeros(1000, np.float32)
    for index, buffer in enumerate(buffers):
        array[:] = index
        device.upload(array, buffer)
    assert cuda.counts["cudaStreamSynchronize"] == 0
    assert [device.download(buffer)[7] for buffer in buffers] == list(range(50))


def test_pinned_memory_is_used_again(cuda, device):
    buffer = device.empty((1000,), "float32")
    for _ in range(100):
        device.upload(np.zeros(1000, np.float32), buffer)
        device.synchronize()
    assert cuda.counts["cudaHostAlloc"] == 1


def test_pinned_memory_has_a_limit(cuda, device, monkeypatch):
    monkeypatch.setattr("sdrt.backends.cuda_memory._MOST_PINNED", MB)
    buffer = device.empty((MB // 4,), "uint8")
    for value in range(40):
        device.upload(np.full(MB // 4, value, np.uint8), buffer)
    assert sum(block.nbytes for block in cuda.pinned.values()) <= MB
    assert device.download(buffer)[0] == 39


def test_equal_buffers_get_equal_addresses(cuda, device):
    """So that what was captured for one picture serves the next one."""

    def addresses():
        buffers = [device.empty((size,), "float32") for size in (3000, 3000, 20, 3000)]
        return [buffer.address for buffer in buffers]

    first = addresses()
    assert len(set(first)) == 4
    gc.collect()
    again = addresses()
    assert sorted(again) == sorted(first)
    gc.collect()
    assert addresses() == again
    assert cuda.counts["cudaMalloc"] == 4
    assert cuda.counts["cudaFree"] == 0


def test_buffer_that_is_let_go_while_work_is_queued(device):
    array = np.arange(2000, dtype=np.float32)
    first = device.empty((2000,), "float32")
    device.upload(array, first)
    del first
    second = device.empty((2000,), "float32")  # the same memory
    device.upload(-array, second)
    np.testing.assert_array_equal(device.download(second), -array)


def test_unused_memory_is_freed_when_there_is_no_more(monkeypatch):
    made = FakeCuda(total=10 * MB)
    install(monkeypatch, made)
    device = CudaDevice()
    buffer = device.empty((6 * MB,), "uint8")
    del buffer
    assert device.empty((8 * MB,), "uint8").size == 8 * MB
    assert made.counts["cudaFree"] == 1


def test_out_of_memory_says_how_much(monkeypatch):
    made = FakeCuda(total=4_000_000_000)
    install(monkeypatch, made)
    message = r"out of memory: 8\.0 GB were wanted on the GPU, where 4\.0 of 4\.0 GB are free; lower"
    with pytest.raises(ComputeError, match=message):
        CudaDevice().empty((2_000_000_000,), "float32")


def test_failed_work_is_told_when_it_is_waited_for(cuda, device):
    cuda.fails = cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(ComputeError, match=r"computing: an illegal memory .*\(cudaErrorIllegalAddress\)"):
        device.download(device.empty((1,), "float32"))


def test_everything_is_freed_at_the_end(cuda):
    device = CudaDevice()
    buffer = device.empty((5,), "float32")
    device.upload(np.zeros(5, np.float32), buffer)
    del device, buffer
    gc.collect()
    assert (cuda.memory, cuda.pinned) == ({}, {})


def test_captured_work_is_replayed(cuda, device):
    source, target = device.empty((4,), "float32"), device.empty((4,), "float32")

    def double():
        views = [cuda.view(one.address, one.size).view("float32") for one in (source, target)]
        cuda.enqueue(lambda: np.multiply(views[0], 2, out=views[1]))

    work = device.capture(double)
    for value in (1, 2, 3):
        device.upload(np.full(4, value, np.float32), source)
        work.launch()
    np.testing.assert_array_equal(device.download(target), [6, 6, 6, 6])


def test_work_that_cannot_be_captured(device):
    def allocate():
        device.empty((1234567,), "float32")

    assert device.capture(allocate) is None
    allocate()  # and the stream is as it was


@pytest.mark.parametrize("architecture", [(8, 6), (9, 0), (12, 0)])
def test_architecture(monkeypatch, architecture):
    install(monkeypatch, FakeCuda(architecture=architecture))
    assert CudaDevice().architecture == "sm{}{}".format(*architecture)


def test_no_gpu(cuda):
    cuda.error = cudaError_t.cudaErrorInsufficientDriver
    message = r"no NVIDIA GPU that CUDA can use: CUDA driver version is insufficient .*nvidia-smi"
    with pytest.raises(BackendUnavailableError, match=message):
        CudaDevice()


@pytest.mark.parametrize("extra", ["cuda", "tensorrt"])
def test_cuda_python_not_installed(monkeypatch, extra):
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.delitem(sys.modules, "cuda.bindings.runtime", raising=False)
    message = rf"cuda-python is not installed; .*pip install 'sdrt\[{extra}\]'"
    with pytest.raises(MissingExtraError, match=message):
        CudaDevice(extra)


def test_buffer_of_another_device(device):
    foreign = HostDevice().empty((1,), "float32")
    with pytest.raises(TypeError, match="HostBuffer is not in the memory of the GPU"):
        device.download(foreign)


def test_array_of_another_shape(device):
    with pytest.raises(ValueError, match="does not fit"):
        device.upload(np.zeros(3, np.float32), device.empty((4,), "float32"))


def test_time_between_two_moments(cuda, device):
    """Taking the time waits for nothing; reading it needs the work done."""
    buffer = device.empty((1000,), "float32")
    started = device.mark()
    device.upload(np.zeros(1000, np.float32), buffer)
    ended = device.mark()
    assert cuda.counts["cudaStreamSynchronize"] == cuda.counts["cudaEventSynchronize"] == 0
    with pytest.raises(ComputeError, match="asking for the time"):
        device.seconds(started, ended)
    device.synchronize()
    assert 0 < device.seconds(started, ended) < 60


def test_moments_are_given_back(cuda, device):
    moment = device.mark()
    device.synchronize()
    del moment
    gc.collect()
    assert cuda.counts["cudaEventDestroy"] == 1
