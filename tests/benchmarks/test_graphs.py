"""The two ways of building graphs that are compared build the same graphs."""

from __future__ import annotations

import pytest
import torch

from benchmarks.graphs import QUICK, measure, ours, own_edges, pyg, pyg_edges, recorded


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_vehicles_and_edges_are_the_same_to_rounding() -> None:
    frames, topology = recorded("single", QUICK)
    own, other = ours(frames, topology), pyg(frames, topology)
    assert len(own_edges(own).T) > 100
    assert torch.equal(own_edges(own), pyg_edges(other))
    torch.testing.assert_close(other.x, own.vehicles, atol=1e-5, rtol=1e-5)
    count = len(own.vehicles)
    order = (other.edge_index[1] * count + other.edge_index[0]).argsort()
    own_order = (own.vehicle_target * count + own.vehicle_source).argsort()
    torch.testing.assert_close(other.edge_attr[order], own.vehicle_edge_features[own_order], atol=1e-4, rtol=1e-4)


def test_edges_that_differ_fail_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.graphs.RADIUS", 40.0)  # for both, and then for one of them only
    assert measure(QUICK)["rows"][0]["edges"] > 0
    monkeypatch.setattr("benchmarks.graphs.pyg_edges", lambda batch: pyg_edges(batch)[:, 1:])
    with pytest.raises(ValueError, match="disagree on edges"):
        measure(QUICK)
