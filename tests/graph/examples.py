"""Small random networks, frames and fragments, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise

import numpy as np

from buffers.fragments import SUMMARY, Decision, Fragment, FragmentWriter, fragment_layout, read_fragment
from buffers.shared import SharedMemory
from envs.network import Network
from envs.signals import Frame
from graph.graphs import Graphs

SIZE = 300.0  # m: the networks are square


def make_network(seed: int, signals: int = 3, lanes: int = 14) -> Network:
    """Signals with two to five phases, lanes that none, one or several of these serve, and lanes that lead to them."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(2, 6, signals)
    phase_start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    served = generator.random((phase_start[-1], lanes)) < 0.2
    approached = served | (generator.random(served.shape) < 0.2)
    distance = np.where(served, 0.0, generator.uniform(0, 300, served.shape))  # m
    neighbours = [(a, b) for a in range(signals) for b in range(signals) if a != b and generator.random() < 0.5]
    return Network(
        lane_ids=tuple(f"lane_{number}" for number in range(lanes)),
        lane_length=generator.uniform(20, 900, lanes).astype(np.float32),
        lane_speed=np.full(lanes, 13.9, np.float32),
        lane_index=generator.integers(0, 4, lanes, np.int16),
        bounds=(-50.0, 20.0, SIZE - 50.0, SIZE + 20.0),
        junction="",
        signals=(),
        fixed_signals=(),
        phase_start=phase_start,
        phase_signal=np.repeat(np.arange(signals), counts).astype(np.int32),
        phase_lanes=np.argwhere(served).astype(np.int32),
        phase_lane_shares=generator.uniform(0, 0.5, (served.sum(), 2)).astype(np.float32),
        approaches=np.argwhere(approached).astype(np.int32),
        approach_distance=distance[approached].astype(np.float32),
        approach_stop=generator.integers(0, served.sum(), approached.sum(), np.int32),
        lane_signal=generator.integers(-1, signals, lanes, np.int32),
        neighbours=np.array(neighbours, np.int32).reshape(-1, 2),
        inside=np.zeros((0, 2), np.int32),
        inside_start=np.zeros(0, np.float32),
    )


def make_frame(generator: np.random.Generator, network: Network, vehicles: int, time: float = 0.0) -> Frame:
    """Vehicles anywhere in the network, some of them off it (lane -1); every signal may show at least one phase."""
    x_min, y_min, x_max, y_max = network.bounds
    lanes = generator.integers(-1, len(network.lane_ids), vehicles, np.int32)
    table = np.column_stack(
        [
            generator.uniform(x_min, x_max, vehicles),
            generator.uniform(y_min, y_max, vehicles),
            np.maximum(0.0, generator.normal(6, 6, vehicles)),  # speed, m/s
            generator.normal(0, 4, vehicles),  # acceleration, m/s²
            generator.uniform(0, 360, vehicles),  # angle, °
            generator.random(vehicles) * network.lane_length[lanes],  # position on the lane, m
            generator.choice([0.0, 3.0, 90.0, 1000.0], vehicles),  # waiting time, s
            generator.integers(0, 2, vehicles),  # controlled
        ]
    )
    counts = np.diff(network.phase_start)
    shown = generator.integers(0, counts, dtype=np.int16)
    allowed = generator.random(network.num_phases) < 0.6
    allowed[network.phase_start[:-1] + shown] = True
    elapsed = generator.uniform(-4, 250, len(counts)).astype(np.float32)
    return Frame(time, table.astype(np.float32), lanes, shown, elapsed, allowed)


def make_frames(seed: int, network: Network, vehicles: Sequence[int]) -> list[Frame]:
    """Consecutive frames with these numbers of vehicles."""
    generator = np.random.default_rng(seed)
    return [make_frame(generator, network, count, 10.0 * number) for number, count in enumerate(vehicles)]


def make_decision(generator: np.random.Generator, network: Network, frame: Frame) -> Decision:
    """An allowed phase for every signal, by a policy unlike the one that will learn."""
    start = network.phase_start
    actions = [generator.choice(np.flatnonzero(frame.allowed[a:b])) for a, b in pairwise(start)]
    signals = len(actions)
    return Decision(
        actions=np.array(actions, np.int16),
        log_probs=generator.uniform(-3, -0.1, signals).astype(np.float32),
        rewards=-generator.exponential(4, signals).astype(np.float32),
        costs=generator.integers(0, 4, signals).astype(np.float32),
    )


def write_fragment(
    network: Network,
    frames: Sequence[Frame],
    decisions: Sequence[Decision],
    *,
    env: int = 0,
    episode: int = 0,
    first: int = 0,
    version: int = 1,
    terminated: bool = False,
    truncated: bool = False,
) -> Fragment:
    """Frames and decisions through a slot of shared memory and back."""
    rows = sum(len(frame.lanes) for frame in frames) + 1
    layout = fragment_layout(len(network.phase_start) - 1, network.num_phases, len(decisions), rows)
    memory = SharedMemory(layout.size)
    slot = layout.views(memory, 0)
    memory.close()
    writer = FragmentWriter(slot, env, episode, first, version)
    writer.begin(frames[0])
    for decision, successor in zip(decisions, frames[1:], strict=True):
        assert writer.append(decision, successor)
    if terminated or truncated:
        writer.end_episode(terminated, truncated, dict.fromkeys(SUMMARY, float(episode)))
    writer.close()
    return read_fragment(slot)


def make_fragment(seed: int, network: Network, length: int, **about: int) -> Fragment:
    """A fragment of ``length`` decisions."""
    generator = np.random.default_rng(seed)
    frames = make_frames(seed, network, generator.integers(0, 12, length + 1).tolist())
    decisions = [make_decision(generator, network, frame) for frame in frames[:-1]]
    return write_fragment(network, frames, decisions, **about)  # type: ignore[arg-type]


def assert_same_graphs(one: Graphs, other: Graphs) -> None:
    """To the bit, types included."""
    for field in fields(Graphs):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        assert ours.dtype == theirs.dtype, field.name
        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
