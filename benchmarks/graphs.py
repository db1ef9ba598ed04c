"""Graphs of a batch of frames: all built at once, against one PyG ``Data`` per frame and ``Batch.from_data_list``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch_geometric.data import Batch, Data

from benchmarks.acting import RADIUS
from benchmarks.recording import record
from benchmarks.spread import Spread, ratio
from benchmarks.traffic import TICK, Plan
from envs import find
from envs.session import ACCELERATION, ANGLE, CONTROLLED, SPEED, WAITING, X, Y
from envs.signals import Frame
from envs.simulation import Simulation
from graph.acting import stack
from graph.build import build
from graph.tensors import GraphTensors, to_tensors
from graph.topology import Topology
from pages import script
from pages.output import say

_FASTEST = 10.0  # s to a collision: later ones are alike


@dataclass(frozen=True)
class Settings:
    """Which frames, and for how long."""

    networks: tuple[str, ...] = ("grid4x4", "resco:cologne1", "resco:cologne8", "resco:ingolstadt21")
    """Scenarios by name."""
    frames: int = 64
    """Frames of one batch."""
    rounds: int = 5
    """How often both are measured."""
    wall: float = 0.3
    """Seconds of one measurement."""
    seconds: float = 3600.0
    """Simulated seconds that the frames are taken from."""


QUICK = Settings(networks=("single",), frames=8, rounds=1, wall=0.02, seconds=120.0)


def measure(settings: Settings) -> dict[str, Any]:
    """``ours`` and ``pyg``: s for a batch; ``faster``: how many times as fast, round by round.

    ``vehicles`` and ``edges`` between them: of the whole batch. Raises ``ValueError`` where the edges are not the same.
    """
    torch.set_num_threads(1)
    rows = []
    for network in settings.networks:
        frames, topology = recorded(network, settings)
        if not torch.equal(own_edges(ours(frames, topology)), pyg_edges(pyg(frames, topology))):
            raise ValueError(f"{network}: the two ways of building graphs disagree on edges")
        seconds: dict[str, list[float]] = {"ours": [], "pyg": []}
        for number in range(1, settings.rounds + 1):
            say(f"graphs of {network}, round {number} of {settings.rounds}")
            seconds["ours"].append(timed(partial(ours, frames, topology), settings.wall))
            seconds["pyg"].append(timed(partial(pyg, frames, topology), settings.wall))
        rows.append(
            {
                "network": network,
                "frames": len(frames),
                "vehicles": sum(len(frame.lanes) for frame in frames),
                "edges": own_edges(ours(frames, topology)).shape[1],
                **{name: Spread.of(values).as_dict() for name, values in seconds.items()},
                "faster": ratio(seconds["pyg"], seconds["ours"]).as_dict(),
            }
        )
    return {"rows": rows}


def recorded(network: str, settings: Settings) -> tuple[list[Frame], Topology]:
    """Frames from all over an episode that follows the plan."""
    scenario = find(network)
    with closing(Simulation(scenario, "traci", episode_seconds=settings.seconds)) as simulation:
        plan = Plan.of(simulation.session.client, simulation.network, scenario.begin).table(simulation.end)
        frames = record(simulation, lambda frame: plan[int((frame.time - scenario.begin) // TICK)])
    chosen = np.linspace(0, len(frames) - 1, settings.frames).astype(int)
    return [frames[number] for number in chosen], Topology.of(simulation.network)


def ours(frames: Sequence[Frame], topology: Topology) -> GraphTensors:
    """The whole graph, phases and signals included."""
    return to_tensors(build(stack(frames), topology, RADIUS))


def pyg(frames: Sequence[Frame], topology: Topology) -> Batch:
    """Vehicles and the edges between them only."""
    return Batch.from_data_list([as_data(frame, topology) for frame in frames])


def as_data(frame: Frame, topology: Topology) -> Data:
    """One frame, built with a few tensor operations and a KD-tree, as ``radius_graph`` has it."""
    table = torch.from_numpy(frame.vehicles)
    place, speed, heading = table[:, [X, Y]], table[:, SPEED], torch.deg2rad(table[:, ANGLE])
    direction = torch.stack([heading.sin(), heading.cos()], dim=1)
    x_min, y_min, x_max, y_max = topology.bounds
    features = torch.stack(
        [
            (place[:, 0] - x_min) / (x_max - x_min),
            (place[:, 1] - y_min) / (y_max - y_min),
            (speed - 15.0) / 5.0,
            (table[:, ACCELERATION] / 5.0).clamp(-1.0, 1.0),
            *direction.T,
            torch.from_numpy(topology.lane_feature[frame.lanes]),
            (table[:, WAITING] / 60.0).clamp(max=5.0),
            table[:, CONTROLLED],
        ],
        dim=1,
    )
    pairs = cKDTree(frame.vehicles[:, [X, Y]]).query_pairs(RADIUS, output_type="ndarray")
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    target, source = torch.from_numpy(ends[np.lexsort(ends.T[::-1])].T)
    away = place[source] - place[target]
    ahead, velocity = direction[target], direction * speed[:, None]
    distance = away.norm(dim=1).clamp(min=0.1)
    closing_speed = -((velocity[source] - velocity[target]) * away).sum(dim=1) / distance
    collision = torch.where(closing_speed > 0.1, distance / closing_speed.clamp(min=0.1), _FASTEST).clamp(max=_FASTEST)
    relative = torch.stack(
        [
            (away * ahead).sum(dim=1) / RADIUS,
            (away[:, 0] * ahead[:, 1] - away[:, 1] * ahead[:, 0]) / RADIUS,
            (speed[source] - speed[target]) / 5.0,
            collision / _FASTEST,
        ],
        dim=1,
    )
    return Data(x=features, edge_index=torch.stack([source, target]), edge_attr=relative)


def own_edges(graph: GraphTensors) -> Tensor:
    """Edges between vehicles in one order, int64 [2, E]."""
    return _ordered(graph.vehicle_source, graph.vehicle_target, len(graph.vehicles))


def pyg_edges(batch: Batch) -> Tensor:
    """The same of a batch of PyG."""
    return _ordered(batch.edge_index[0], batch.edge_index[1], batch.num_nodes)


def _ordered(source: Tensor, target: Tensor, count: int) -> Tensor:
    order = (target * count + source).argsort()
    return torch.stack([source[order], target[order]])


def timed(build_once: Callable[[], object], wall: float) -> float:
    """Seconds that one call takes, on average over ``wall`` s."""
    build_once()
    count, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < wall:
        build_once()
        count += 1
    return elapsed / count


if __name__ == "__main__":
    script.run(Settings, measure, "graphs", __doc__)
