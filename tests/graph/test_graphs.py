from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.acting import stack
from graph.build import build
from graph.graphs import Graphs
from graph.topology import Topology
from tests.graph.examples import assert_same_graphs, make_frames, make_network

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=6)
TOPOLOGY = Topology.of(make_network(1))


def graphs_of(counts: list[int], seed: int = 0) -> Graphs:
    return build(stack(make_frames(seed, make_network(1), counts)), TOPOLOGY, 60.0)


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_taking_all_changes_nothing(counts: list[int]) -> None:
    graphs = graphs_of(counts)
    assert len(graphs) == len(counts)
    assert_same_graphs(graphs.take(range(len(counts))), graphs)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.data())
def test_joining_what_was_taken_is_taking_what_is_joined(counts: list[int], data: st.DataObject) -> None:
    graphs = graphs_of(counts)
    frames = st.lists(st.integers(0, len(counts) - 1), max_size=8)
    parts = data.draw(st.lists(frames, min_size=1, max_size=4))
    joined = Graphs.join([graphs.take(part) for part in parts])
    assert_same_graphs(joined, graphs.take([frame for part in parts for frame in part]))


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.data())
def test_taking_twice_is_taking_once(counts: list[int], data: st.DataObject) -> None:
    graphs = graphs_of(counts)
    first = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=8))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), max_size=8))
    assert_same_graphs(graphs.take(first).take(second), graphs.take([first[i] for i in second]))


def test_graphs_of_different_networks_join() -> None:
    other = make_network(7, signals=5)
    small = graphs_of([3, 0, 5])
    large = build(stack(make_frames(2, other, [4, 6])), Topology.of(other), 60.0)
    joined = Graphs.join([small, large])
    assert len(joined) == 5
    assert_same_graphs(joined.take([3, 4]), large)
    assert_same_graphs(joined.take([0, 1, 2]), small)


def test_what_was_taken_is_a_copy() -> None:
    graphs = graphs_of([4, 4])
    taken = graphs.take([0, 1])
    taken.vehicles[:] = np.nan
    taken.phases[:] = np.nan
    assert not np.isnan(graphs.vehicles).any()
    assert not np.isnan(graphs.phases).any()


def test_no_frame_at_all() -> None:
    none = graphs_of([4, 4]).take([])
    assert len(none) == 0
    assert none.vehicles.shape == (0, 9)
    assert_same_graphs(Graphs.join([none, graphs_of([3])]), graphs_of([3]))
