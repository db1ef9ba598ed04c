"""Frames to graphs: all frames of a batch at once, in compiled loops.

The loops are plain Python that numba compiles. What it has compiled it keeps until this very file changes, so that
loops and the constants that they use stay together here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.session import ACCELERATION, ANGLE, CONTROLLED, LANE_POSITION, SPEED, WAITING, X, Y
from graph.graphs import Graphs
from graph.ragged import Offsets
from graph.schema import PHASE_EDGE_FEATURES, PHASE_FEATURES, VEHICLE_EDGE_FEATURES, VEHICLE_FEATURES
from graph.topology import Topology

_SPEED_MEAN = 15.0  # m/s
_SPEED_DEVIATION = 5.0  # m/s, also the unit of relative speeds
_ACCELERATION_LIMIT = 5.0  # m/s²
_WAITING_SCALE = 60.0  # s
_WAITING_LIMIT = 5.0  # in units of _WAITING_SCALE
_ELAPSED_SCALE = 60.0  # s
_ELAPSED_LIMIT = 3.0  # in units of _ELAPSED_SCALE
_COLLISION_LIMIT = 10.0  # s: times to collision beyond this are alike
_NEAREST = 0.1  # m: no two vehicles count as closer
_CLOSING = 0.1  # m/s: slower approaches end in no collision
_DISTANCE_SCALE = 100.0  # m
_DISTANCE_LIMIT = 5.0  # in units of _DISTANCE_SCALE
_ARRIVAL_LIMIT = 60.0  # s: later arrivals are alike
_CRAWLING = 0.5  # m/s: the least speed assumed for times to arrival
_DAY = 86400.0  # s

# Compiled in as well; whoever changes the columns must come by here.
assert list(range(8)) == [X, Y, SPEED, ACCELERATION, ANGLE, LANE_POSITION, WAITING, CONTROLLED]
assert [len(VEHICLE_FEATURES), len(VEHICLE_EDGE_FEATURES), len(PHASE_FEATURES), len(PHASE_EDGE_FEATURES)] == [
    9,
    4,
    6,
    6,
]


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
    """Build the graphs of N frames; vehicles not farther apart than ``radius`` (m, 0 for none) are joined both ways.

    Raises ``IndexError`` for frames of another network, as far as it shows.
    """
    static = topology.repeated(len(frames.time))
    time, vehicles, near, phases, served = _build(
        frames.time,
        frames.vehicles,
        frames.lanes,
        frames.offsets,
        frames.shown,
        frames.elapsed,
        frames.allowed,
        topology.bounds,
        topology.lane_length,
        topology.lane_feature,
        topology.lane_phase_start,
        topology.lane_phases,
        topology.lane_distance,
        topology.lane_shares,
        topology.phase_start,
        topology.phase_lanes,
        float(radius),
    )
    return Graphs(
        time=time,
        vehicles=vehicles,
        vehicle_edges=near[0],
        vehicle_edge_features=near[1],
        phases=phases,
        phase_signal=static.phase_signal,
        phase_edges=served[0],
        phase_edge_features=served[1],
        signal_start=static.signal_start,
        signal_edges=static.signal_edges,
        vehicle_offsets=frames.offsets,
        vehicle_edge_offsets=near[2],
        phase_offsets=static.phase_offsets,
        phase_edge_offsets=served[2],
        signal_offsets=static.signal_offsets,
        signal_edge_offsets=static.signal_edge_offsets,
    )


@compiled
def _build(  # type: ignore[no-untyped-def]
    time,
    table,
    lanes,
    offsets,
    shown,
    elapsed,
    allowed,
    bounds,
    lane_length,
    lane_feature,
    lane_phase_start,
    lane_phases,
    lane_distance,
    lane_shares,
    phase_start,
    phase_lanes,
    radius,
):
    """All that differs from frame to frame, in one call: each call from Python costs as much as a small loop."""
    return (
        _time_features(time),
        _vehicle_features(table, lanes, lane_feature, bounds),
        _vehicle_edges(table, offsets, radius),
        _phase_features(shown, elapsed, allowed, phase_start, phase_lanes),
        _phase_edges(
            table, lanes, offsets, lane_length, lane_feature, lane_phase_start, lane_phases, lane_distance, lane_shares
        ),
    )


@compiled
def _time_features(time):  # type: ignore[no-untyped-def]
    """Sine and cosine of the time of day, [N, 2]."""
    features = np.empty((len(time), 2), np.float32)
    for n in range(len(time)):
        angle = time[n] * (2.0 * math.pi / _DAY)
        features[n, 0] = math.sin(angle)
        features[n, 1] = math.cos(angle)
    return features


@compiled
def _clipped(value, low, high):  # type: ignore[no-untyped-def]
    return min(max(value, low), high)


@compiled
def _vehicle_features(table, lanes, lane_feature, bounds):  # type: ignore[no-untyped-def]
    """Features of the vehicle nodes, [V, 9]."""
    x_min, y_min, x_max, y_max = bounds
    width, height = max(x_max - x_min, 1.0), max(y_max - y_min, 1.0)
    features = np.empty((len(table), 9), np.float32)
    for v in range(len(table)):
        if lanes[v] >= len(lane_feature):
            raise IndexError("a vehicle is on a lane that the network does not have")
        heading = math.radians(table[v, ANGLE])
        features[v, 0] = (table[v, X] - x_min) / width
        features[v, 1] = (table[v, Y] - y_min) / height
        features[v, 2] = (table[v, SPEED] - _SPEED_MEAN) / _SPEED_DEVIATION
        features[v, 3] = _clipped(table[v, ACCELERATION] / _ACCELERATION_LIMIT, -1.0, 1.0)
        features[v, 4] = math.sin(heading)
        features[v, 5] = math.cos(heading)
        features[v, 6] = lane_feature[lanes[v]] if lanes[v] >= 0 else 0.0
        features[v, 7] = min(table[v, WAITING] / _WAITING_SCALE, _WAITING_LIMIT)
        features[v, 8] = table[v, CONTROLLED]
    return features


@compiled
def _vehicle_edges(table, offsets, radius):  # type: ignore[no-untyped-def]
    """Edges between vehicles of one frame: ends [E, 2], features [E, 4], offsets [N + 1]; by target, then source."""
    frames, count = len(offsets) - 1, len(table)
    edge_offsets = np.zeros(frames + 1, np.int64)
    if radius <= 0.0 or count < 2:
        return np.empty((0, 2), np.int32), np.empty((0, 4), np.float32), edge_offsets
    frame, cell_x, cell_y = _cells(table, offsets, radius)
    pairs = _pairs(table, frame, cell_x, cell_y, radius)
    # Each pair is an edge both ways. As pairs come in ascending order, so do the sources of every target: first those
    # before it, one pair of theirs after the other, then those behind it.
    following = np.zeros(count + 1, np.int64)
    for p in range(len(pairs)):
        following[pairs[p, 0] + 1] += 1
        following[pairs[p, 1] + 1] += 1
    for v in range(count):
        edge_offsets[frame[v] + 1] += following[v + 1]
        following[v + 1] += following[v]
    for n in range(frames):
        edge_offsets[n + 1] += edge_offsets[n]
    sin, cos = np.empty(count), np.empty(count)
    for v in range(count):
        heading = math.radians(table[v, ANGLE])  # 0: north, clockwise
        sin[v], cos[v] = math.sin(heading), math.cos(heading)
    ends = np.empty((2 * len(pairs), 2), np.int32)
    features = np.empty((2 * len(pairs), 4), np.float32)
    nearness = 1.0 / radius
    for p in range(len(pairs)):
        one, other = pairs[p, 0], pairs[p, 1]
        first = offsets[frame[one]]
        right = np.float64(table[other, X]) - np.float64(table[one, X])  # m, from one to the other
        up = np.float64(table[other, Y]) - np.float64(table[one, Y])
        speed, faster = np.float64(table[one, SPEED]), np.float64(table[other, SPEED]) - np.float64(table[one, SPEED])
        drift_right = (speed + faster) * sin[other] - speed * sin[one]
        drift_up = (speed + faster) * cos[other] - speed * cos[one]
        distance = max(math.sqrt(right * right + up * up), _NEAREST)
        closing = -(drift_right * right + drift_up * up) / distance  # m/s, positive: approaching
        collision = min(distance / (closing * _COLLISION_LIMIT), 1.0) if closing > _CLOSING else 1.0
        right, up, faster = right * nearness, up * nearness, faster * (1.0 / _SPEED_DEVIATION)
        for source, target, sign in ((other, one, 1.0), (one, other, -1.0)):
            e = following[target]
            following[target] += 1
            ends[e, 0] = source - first
            ends[e, 1] = target - first
            features[e, 0] = sign * (right * sin[target] + up * cos[target])
            features[e, 1] = sign * (right * cos[target] - up * sin[target])  # positive: to the right
            features[e, 2] = sign * faster
            features[e, 3] = collision
    return ends, features, edge_offsets


@compiled
def _pairs(table, frame, cell_x, cell_y, radius):  # type: ignore[no-untyped-def]
    """Pairs of vehicles of one frame that are not farther apart than ``radius``, [K, 2], in ascending order.

    Vehicles are sorted into square cells as wide as the radius, and the cells of all frames into one hash table, so
    that each vehicle looks at the few in its own and the eight cells around it, whatever the size of the network.
    """
    count = len(table)
    mask = 1
    while mask < 2 * count + 4:
        mask *= 2
    mask -= 1
    start, members = _by_bucket(frame, cell_x, cell_y, mask)
    # In the order of their buckets, so that candidates lie side by side in memory.
    x_there, y_there = np.empty(count), np.empty(count)
    for at in range(count):
        x_there[at], y_there[at] = table[members[at], X], table[members[at], Y]
    pairs = np.empty((8 * count, 2), np.int32)
    total = 0
    for one in range(count):
        first = total
        own_x, own_y = np.float64(table[one, X]), np.float64(table[one, Y])
        for row in range(cell_y[one] - 1, cell_y[one] + 2):
            # The three cells side by side are three buckets in a row, unless the table ends in between.
            low = _bucket(frame[one], cell_x[one] - 1, row, mask)
            over = low + 3 - (mask + 1)
            for part in range(1 if over <= 0 else 2):
                begin, end = (start[low], start[min(low + 3, mask + 1)]) if part == 0 else (start[0], start[over])
                if total + end - begin > len(pairs):
                    larger = np.empty((2 * len(pairs) + end - begin, 2), np.int32)
                    larger[:total] = pairs[:total]
                    pairs = larger
                for at in range(begin, end):
                    other = members[at]
                    right, up = x_there[at] - own_x, y_there[at] - own_y
                    if other <= one or right * right + up * up > radius * radius:
                        continue
                    if cell_y[other] != row or frame[other] != frame[one]:
                        continue  # other cells may share these buckets
                    # The few partners of one vehicle are sorted as they come.
                    place = total
                    while place > first and pairs[place - 1, 1] > other:
                        pairs[place, 1] = pairs[place - 1, 1]
                        place -= 1
                    pairs[place, 1] = other
                    pairs[total, 0] = one
                    total += 1
    return pairs[:total]


@compiled
def _cells(table, offsets, radius):  # type: ignore[no-untyped-def]
    """Frame and cell of every vehicle, each [V]."""
    frame, cell_x, cell_y = np.empty((3, len(table)), np.int64)
    for n in range(len(offsets) - 1):
        for v in range(offsets[n], offsets[n + 1]):
            frame[v] = n
            cell_x[v] = math.floor(np.float64(table[v, X]) / radius)
            cell_y[v] = math.floor(np.float64(table[v, Y]) / radius)
    return frame, cell_x, cell_y


@compiled
def _bucket(frame, x, y, mask):  # type: ignore[no-untyped-def]
    """Where a cell lies in the hash table: large odd factors scatter rows and frames, cells of a row are neighbours."""
    return (x + (y * 19349663 ^ frame * 83492791)) & mask


@compiled
def _by_bucket(frame, cell_x, cell_y, mask):  # type: ignore[no-untyped-def]
    """The vehicles of each bucket: bucket b has ``members[start[b]:start[b + 1]]``, in ascending order."""
    count = len(frame)
    bucket = np.empty(count, np.int64)
    start = np.zeros(mask + 2, np.int64)
    for v in range(count):
        bucket[v] = _bucket(frame[v], cell_x[v], cell_y[v], mask)
        start[bucket[v] + 1] += 1
    for b in range(mask + 1):
        start[b + 1] += start[b]
    following = start[:-1].copy()
    members = np.empty(count, np.int64)
    for v in range(count):
        members[following[bucket[v]]] = v
        following[bucket[v]] += 1
    return start, members


@compiled
def _phase_features(shown, elapsed, allowed, phase_start, phase_lanes):  # type: ignore[no-untyped-def]
    """Features of the phase nodes, [N * P, 6]."""
    frames, signals, phases = len(shown), len(phase_start) - 1, len(phase_lanes)
    features = np.zeros((frames * phases, 6), np.float32)
    for n in range(frames):
        for phase in range(phases):
            row = n * phases + phase
            features[row, 2] = phase_lanes[phase, 0]
            features[row, 3] = phase_lanes[phase, 1]
            features[row, 4] = phase_lanes[phase, 2]
            features[row, 5] = allowed[n, phase]
        for s in range(signals):
            if not 0 <= shown[n, s] < phase_start[s + 1] - phase_start[s]:
                raise IndexError("a signal shows a phase that it does not have")
            row = n * phases + phase_start[s] + shown[n, s]
            features[row, 0] = 1.0
            features[row, 1] = _clipped(elapsed[n, s] / _ELAPSED_SCALE, -1.0, _ELAPSED_LIMIT)
    return features


@compiled
def _phase_edges(  # type: ignore[no-untyped-def]
    table, lanes, offsets, lane_length, lane_feature, lane_phase_start, lane_phases, lane_distance, lane_shares
):
    """Edges from each vehicle to the phases that its lane approaches: ends [K, 2], features [K, 6], offsets [N + 1]."""
    frames = len(offsets) - 1
    edge_offsets = np.zeros(frames + 1, np.int64)
    for n in range(frames):
        serving = 0
        for v in range(offsets[n], offsets[n + 1]):
            if lanes[v] >= 0:
                serving += lane_phase_start[lanes[v] + 1] - lane_phase_start[lanes[v]]
        edge_offsets[n + 1] = edge_offsets[n] + serving
    ends = np.empty((edge_offsets[frames], 2), np.int32)
    features = np.empty((edge_offsets[frames], 6), np.float32)
    at = 0
    for n in range(frames):
        for v in range(offsets[n], offsets[n + 1]):
            lane = lanes[v]
            if lane < 0:
                continue
            left = lane_length[lane] - table[v, LANE_POSITION]  # m of the lane
            for k in range(lane_phase_start[lane], lane_phase_start[lane + 1]):
                distance = left + lane_distance[k]  # m to the stop line
                arrival = distance / max(table[v, SPEED], _CRAWLING)  # s
                ends[at, 0] = v - offsets[n]
                ends[at, 1] = lane_phases[k]
                features[at, 0] = _clipped(distance / _DISTANCE_SCALE, 0.0, _DISTANCE_LIMIT)
                features[at, 1] = _clipped(arrival / _ARRIVAL_LIMIT, 0.0, 1.0)
                features[at, 2] = min(table[v, WAITING] / _WAITING_SCALE, _WAITING_LIMIT)
                features[at, 3] = lane_feature[lane]
                features[at, 4] = lane_shares[k, 0]
                features[at, 5] = lane_shares[k, 1]
                at += 1
    return ends, features, edge_offsets
