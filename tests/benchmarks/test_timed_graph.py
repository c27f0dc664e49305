"""Graphs that tell how long they run, without waiting for a device while they do."""

from __future__ import annotations

from sdrt_bench.timed_graph import TimedGraph


class Clock:
    """A device that is done with its work when it is waited for. now: in seconds of its own."""

    def __init__(self):
        self.now, self.waited = 0.0, 0

    def mark(self):
        return self.now

    def seconds(self, started, ended):
        assert self.waited, "the work is not done"
        return ended - started

    def synchronize(self):
        self.waited += 1


class Graph:
    def __init__(self, device, seconds):
        self.inputs, self.outputs = {}, {}
        self.device, self.left = device, list(seconds)

    def run(self):
        self.device.now += self.left.pop(0)


def test_each_run_by_the_devices_clock():
    device = Clock()
    timed = TimedGraph(Graph(device, [0.25, 0.5, 1.0]), device)
    timed.run()
    device.now += 10
    timed.run()
    assert device.waited == 0
    assert timed.runs() == [0.25, 0.5]
    timed.forget()
    timed.run()
    assert timed.runs() == [1.0]
