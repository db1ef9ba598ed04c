"""Frames to graphs: all frames of a batch at once, with array operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from envs.session import ACCELERATION, ANGLE, CONTROLLED, LANE_POSITION, SPEED, WAITING, X, Y
from graph import schema
from graph.graphs import Graphs
from graph.ragged import Offsets, frame_of, offsets_of, ranges
from graph.topology import Topology


@dataclass(frozen=True, eq=False, slots=True)
class Frames:
    """N frames of one network, rows of all vehicles behind each other.

    ``vehicles`` float32 [V, 8] and ``lanes`` int32 [V] as in ``envs.session.Snapshot``; ``offsets`` int64 [N + 1];
    ``time`` float64 [N] s; ``shown`` int16 and ``elapsed`` float32 [N, S], ``allowed`` bool [N, P] as in
    ``envs.signals.Frame``.
    """

    time: NDArray[np.float64]
    vehicles: NDArray[np.float32]
    lanes: NDArray[np.int32]
    offsets: Offsets
    shown: NDArray[np.int16]
    elapsed: NDArray[np.float32]
    allowed: NDArray[np.bool_]


def build(frames: Frames, topology: Topology, radius: float) -> Graphs:
    """Build the graphs of N frames; vehicles closer than ``radius`` (m, 0 for none) are joined both ways."""
    n, s, m = len(frames.time), topology.num_signals, len(topology.signal_edges)
    edges, edge_features, edge_offsets = vehicle_edges(frames, radius)
    served, served_features, served_offsets = phase_edges(frames, topology)
    angle = frames.time * (2 * np.pi / schema.DAY)
    return Graphs(
        time=np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32),
        vehicles=vehicle_features(frames, topology),
        vehicle_edges=edges,
        vehicle_edge_features=edge_features,
        phases=phase_features(frames, topology),
        phase_signal=np.tile(topology.phase_signal, n),
        phase_edges=served,
        phase_edge_features=served_features,
        signal_start=np.tile(topology.phase_start[:-1], n),
        signal_edges=np.tile(topology.signal_edges, (n, 1)),
        vehicle_offsets=frames.offsets,
        vehicle_edge_offsets=edge_offsets,
        phase_offsets=np.arange(n + 1) * topology.num_phases,
        phase_edge_offsets=served_offsets,
        signal_offsets=np.arange(n + 1) * s,
        signal_edge_offsets=np.arange(n + 1) * m,
    )


def vehicle_features(frames: Frames, topology: Topology) -> NDArray[np.float32]:
    """Features of the vehicle nodes, [V, 9]."""
    table = frames.vehicles
    x_min, y_min, x_max, y_max = topology.bounds
    heading = np.deg2rad(table[:, ANGLE])
    features = np.empty((len(table), len(schema.VEHICLE_FEATURES)), np.float32)
    features[:, 0] = (table[:, X] - x_min) / max(x_max - x_min, 1.0)
    features[:, 1] = (table[:, Y] - y_min) / max(y_max - y_min, 1.0)
    features[:, 2] = (table[:, SPEED] - schema.SPEED_MEAN) / schema.SPEED_DEVIATION
    features[:, 3] = np.clip(table[:, ACCELERATION] / schema.ACCELERATION_LIMIT, -1.0, 1.0)
    features[:, 4] = np.sin(heading)
    features[:, 5] = np.cos(heading)
    features[:, 6] = np.where(frames.lanes >= 0, topology.lane_feature[frames.lanes], 0.0)
    features[:, 7] = scaled_waiting(table[:, WAITING])
    features[:, 8] = table[:, CONTROLLED]
    return features


def vehicle_edges(frames: Frames, radius: float) -> tuple[NDArray[np.int32], NDArray[np.float32], Offsets]:
    """Edges between vehicles of one frame closer than ``radius`` (m): ends [E, 2], features [E, 4], offsets [N + 1].

    Sorted by target, then source. All frames share one KD-tree, lifted apart along a third axis by twice the radius.
    """
    n = len(frames.time)
    if radius <= 0 or len(frames.vehicles) < 2:
        none = np.zeros(n + 1, np.int64)
        return np.empty((0, 2), np.int32), np.empty((0, len(schema.VEHICLE_EDGE_FEATURES)), np.float32), none
    frame = frame_of(frames.offsets)
    places = np.column_stack([frames.vehicles[:, [X, Y]].astype(np.float64), frame * (2.0 * radius)])
    pairs = cKDTree(places, balanced_tree=False, compact_nodes=False).query_pairs(radius, output_type="ndarray")
    source = np.concatenate([pairs[:, 0], pairs[:, 1]])
    target = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.argsort(target * len(places) + source)
    source, target = source[order], target[order]
    counts = np.bincount(frame[target], minlength=n)
    ends = np.column_stack([source, target]) - frames.offsets[frame[target]][:, None]
    return ends.astype(np.int32), relative_features(frames.vehicles, source, target, radius), offsets_of(counts)


def relative_features(
    vehicles: NDArray[np.float32], source: NDArray[np.integer], target: NDArray[np.integer], radius: float
) -> NDArray[np.float32]:
    """How vehicle ``source[e]`` looks from vehicle ``target[e]``, [E, 4]."""
    heading = np.deg2rad(vehicles[:, ANGLE])  # 0: north, clockwise
    direction = np.stack([np.sin(heading), np.cos(heading)], axis=1)
    velocity = direction * vehicles[:, SPEED, None]
    offset = vehicles[source][:, [X, Y]] - vehicles[target][:, [X, Y]]
    ahead = direction[target]
    distance = np.maximum(np.linalg.norm(offset, axis=1), 0.1)
    closing = -((velocity[source] - velocity[target]) * offset).sum(axis=1) / distance  # m/s, positive: approaching
    time_to_collision = np.where(closing > 0.1, distance / np.maximum(closing, 0.1), schema.COLLISION_LIMIT)
    features = np.empty((len(source), len(schema.VEHICLE_EDGE_FEATURES)), np.float32)
    features[:, 0] = (offset * ahead).sum(axis=1) / radius
    features[:, 1] = (offset[:, 0] * ahead[:, 1] - offset[:, 1] * ahead[:, 0]) / radius  # positive: to the right
    features[:, 2] = (vehicles[source, SPEED] - vehicles[target, SPEED]) / schema.SPEED_DEVIATION
    features[:, 3] = np.minimum(time_to_collision / schema.COLLISION_LIMIT, 1.0)
    return features


def phase_features(frames: Frames, topology: Topology) -> NDArray[np.float32]:
    """Features of the phase nodes, [N * P, 4]."""
    n = len(frames.time)
    shown = np.zeros((n, topology.num_phases), np.float32)
    position = topology.phase_start[:-1] + frames.shown
    np.put_along_axis(shown, position, 1.0, axis=1)
    elapsed = np.clip(frames.elapsed / schema.ELAPSED_SCALE, -1.0, schema.ELAPSED_LIMIT)
    features = np.empty((n, topology.num_phases, len(schema.PHASE_FEATURES)), np.float32)
    features[:, :, 0] = shown
    features[:, :, 1] = shown * elapsed[:, topology.phase_signal]
    features[:, :, 2] = topology.phase_lanes
    features[:, :, 3] = frames.allowed
    return features.reshape(n * topology.num_phases, -1)


def phase_edges(frames: Frames, topology: Topology) -> tuple[NDArray[np.int32], NDArray[np.float32], Offsets]:
    """Edges from each vehicle to the phases that serve its lane: ends [K, 2], features [K, 4], offsets [N + 1]."""
    lanes = frames.lanes
    serving = np.where(lanes >= 0, np.diff(topology.lane_phase_start)[lanes], 0)  # [V] phases that serve it
    vehicle = np.repeat(np.arange(len(lanes)), serving)
    phase = topology.lane_phases[ranges(topology.lane_phase_start[:-1][lanes], serving)]
    frame = frame_of(frames.offsets)
    counts = np.bincount(frame, serving, minlength=len(frames.time)).astype(np.int64)
    ends = np.column_stack([vehicle - frames.offsets[frame[vehicle]], phase]).astype(np.int32)
    # Computed per vehicle, then repeated for each of its edges.
    distance = topology.lane_length[lanes] - frames.vehicles[:, LANE_POSITION]  # m to the stop line
    arrival = distance / np.maximum(frames.vehicles[:, SPEED], schema.CRAWLING)  # s
    features = np.empty((len(lanes), len(schema.PHASE_EDGE_FEATURES)), np.float32)
    features[:, 0] = np.clip(distance / schema.DISTANCE_SCALE, 0.0, schema.DISTANCE_LIMIT)
    features[:, 1] = np.clip(arrival / schema.ARRIVAL_LIMIT, 0.0, 1.0)
    features[:, 2] = scaled_waiting(frames.vehicles[:, WAITING])
    features[:, 3] = topology.lane_feature[lanes]
    return ends, features[vehicle], offsets_of(counts)


def scaled_waiting(waiting: NDArray[np.float32]) -> NDArray[np.float32]:
    """Waiting times (s) as a feature."""
    return np.minimum(waiting / schema.WAITING_SCALE, schema.WAITING_LIMIT)
