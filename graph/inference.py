"""The policy once more, for those who act: no gradients, no torch, one thread, a few microseconds of overhead.

``graph.policy`` says what is computed and why; here it is written as loops that numba compiles, since a dispatch of
torch costs more than most of these layers. A test holds the two together to the last digits. Everything is float32.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from graph.graphs import Graphs
from graph.schema import ALLOWED, PHASE_EDGE_FEATURES, POLICY_VEHICLE_COLUMNS, SHARES, VEHICLE_EDGE_FEATURES
from graph.shape import PolicyShape, parameter_shapes

# Compiled in: numba keeps what it has compiled until this very file changes.
assert (ALLOWED, len(VEHICLE_EDGE_FEATURES), len(PHASE_EDGE_FEATURES)) == (5, 4, 6)
assert ((2, 3, 6, 7, 8), slice(4, 6)) == (POLICY_VEHICLE_COLUMNS, SHARES)


class ActingPolicy:
    """A copy of a policy that only acts: uniform over the allowed phases until it is given weights."""

    def __init__(self, shape: PolicyShape) -> None:
        self.shape = shape
        self._shapes = parameter_shapes(shape)
        self._weights = np.zeros(sum(math.prod(size) for size in self._shapes), np.float32)

    def load(self, vector: NDArray[np.float32]) -> None:
        """Take over all parameters of a ``SignalPolicy``, as one vector in their order."""
        if vector.shape != self._weights.shape:
            raise ValueError(f"{vector.size} weights were given to a policy of {self._weights.size}")
        at = 0
        for size in self._shapes:
            end = at + math.prod(size)
            # Matrices are kept as [inputs, outputs], so that the inner loop runs over neighbours in memory.
            self._weights[at:end] = vector[at:end].reshape(size).T.ravel()
            at = end

    def log_probs(self, graphs: Graphs, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """Log-probabilities of all phases [P], -inf where a phase may not be chosen.

        ``history`` int64 [H - 1, P]: rows of the same phase 1, 2, ... frames earlier, -1 where that is not at hand.
        """
        shape = self.shape
        return _log_probs(
            self._weights,
            (shape.hidden, shape.narrow, shape.vehicle_rounds, shape.phase_rounds),
            graphs.vehicles,
            graphs.vehicle_edges,
            graphs.vehicle_edge_features,
            graphs.phases,
            graphs.phase_signal,
            graphs.phase_edges,
            graphs.phase_edge_features,
            graphs.signal_edges,
            graphs.vehicle_offsets,
            graphs.vehicle_edge_offsets,
            graphs.phase_offsets,
            graphs.phase_edge_offsets,
            graphs.signal_offsets,
            graphs.signal_edge_offsets,
            history,
        )


@compiled
def _matrix(weights, at, rows, columns):  # type: ignore[no-untyped-def]
    """The next parameter as [rows, columns], and where the one after it begins."""
    end = at + rows * columns
    return weights[at:end].reshape((rows, columns)), end


@compiled
def _layer(weights, at, inputs, outputs):  # type: ignore[no-untyped-def]
    """The next linear layer, [inputs, outputs] and [outputs], and where the parameter after it begins."""
    matrix, at = _matrix(weights, at, inputs, outputs)
    end = at + outputs
    return matrix, weights[at:end], end


@compiled
def _linear(values, matrix, bias):  # type: ignore[no-untyped-def]
    """[N, I] to [N, O]; four inputs at a time, so that outputs stay in registers for longer."""
    inputs, outputs = matrix.shape
    result = np.empty((len(values), outputs), np.float32)
    fours = inputs - inputs % 4
    for n in range(len(values)):
        row = result[n]
        for o in range(outputs):
            row[o] = bias[o]
        for i in range(0, fours, 4):
            a, b, c, d = values[n, i], values[n, i + 1], values[n, i + 2], values[n, i + 3]
            for o in range(outputs):
                row[o] += a * matrix[i, o] + b * matrix[i + 1, o] + c * matrix[i + 2, o] + d * matrix[i + 3, o]
        for i in range(fours, inputs):
            a = values[n, i]
            for o in range(outputs):
                row[o] += a * matrix[i, o]
    return result


@compiled
def _relu(values):  # type: ignore[no-untyped-def]
    """In place."""
    for n in range(values.shape[0]):
        for o in range(values.shape[1]):
            values[n, o] = max(values[n, o], np.float32(0.0))
    return values


@compiled
def _add(values, others):  # type: ignore[no-untyped-def]
    """In place."""
    for n in range(values.shape[0]):
        for o in range(values.shape[1]):
            values[n, o] += others[n, o]
    return values


@compiled
def _log_probs(  # type: ignore[no-untyped-def]
    weights,
    shape,
    vehicles,
    vehicle_edges,
    vehicle_edge_features,
    phases,
    phase_signal,
    phase_edges,
    phase_edge_features,
    signal_edges,
    vehicle_offsets,
    vehicle_edge_offsets,
    phase_offsets,
    phase_edge_offsets,
    signal_offsets,
    signal_edge_offsets,
    history,
):
    """``SignalPolicy.forward`` without the values."""
    hidden, narrow, vehicle_rounds, phase_rounds = shape
    frames = len(vehicle_offsets) - 1
    matrix, bias, at = _layer(weights, 0, len(POLICY_VEHICLE_COLUMNS), narrow)
    known = np.empty((len(vehicles), len(POLICY_VEHICLE_COLUMNS)), np.float32)
    for v in range(len(vehicles)):
        for i in range(len(POLICY_VEHICLE_COLUMNS)):
            known[v, i] = vehicles[v, POLICY_VEHICLE_COLUMNS[i]]
    state = _relu(_linear(known, matrix, bias))
    for _ in range(vehicle_rounds):
        at = _vehicle_round(
            weights, at, state, vehicle_edges, vehicle_edge_features, vehicle_offsets, vehicle_edge_offsets
        )
    served, served_bias, at = _layer(weights, at, narrow, hidden)
    edge, edge_bias, at = _layer(weights, at, phase_edge_features.shape[1], hidden)
    said = _linear(state, served, served_bias + edge_bias)
    demand = np.zeros((len(phases), hidden), np.float32)
    for n in range(frames):
        for k in range(phase_edge_offsets[n], phase_edge_offsets[n + 1]):
            phase, vehicle = phase_offsets[n] + phase_edges[k, 1], vehicle_offsets[n] + phase_edges[k, 0]
            _demand(demand, phase, said, vehicle, phase_edge_features, k, edge)
    demand *= np.float32(0.1)
    matrix, bias, at = _layer(weights, at, hidden, hidden)
    demand = _linear(demand, matrix, bias)
    matrix, bias, at = _layer(weights, at, phases.shape[1], hidden)
    signal = np.empty(len(phases), np.int64)  # of each phase, over all frames
    for n in range(frames):
        for p in range(phase_offsets[n], phase_offsets[n + 1]):
            signal[p] = signal_offsets[n] + phase_signal[p]
    state = _relu(_add(_linear(phases, matrix, bias), demand))
    if len(history):
        present = state.copy()
        for back in range(len(history)):
            matrix, bias, at = _layer(weights, at, hidden, hidden)
            before = _relu(_linear(present, matrix, bias))
            for p in range(len(phases)):
                if history[back, p] >= 0:
                    state[p] += before[history[back, p]]
    for _ in range(phase_rounds):
        at = _phase_round(weights, at, state, signal, signal_edges, signal_offsets, signal_edge_offsets)
    matrix, bias, at = _layer(weights, at, hidden, hidden)
    state = _relu(_linear(state, matrix, bias))
    matrix, bias, at = _layer(weights, at, hidden, 1)
    scores = _linear(state, matrix, bias)[:, 0].copy()
    for p in range(len(phases)):
        if not phases[p, ALLOWED] > 0.5:
            scores[p] = -np.inf
    return _log_softmax(scores, signal, signal_offsets[frames])


@compiled
def _hear(heard, target, said, source, features, e, edge):  # type: ignore[no-untyped-def]
    """Add to row ``target`` of ``heard`` what a vehicle, ``source``, says to another one over edge ``e``."""
    a, b, c, d = features[e, 0], features[e, 1], features[e, 2], features[e, 3]
    for o in range(said.shape[1]):
        message = said[source, o] + a * edge[0, o] + b * edge[1, o] + c * edge[2, o] + d * edge[3, o]
        heard[target, o] += max(message, np.float32(0.0))


@compiled
def _demand(demand, target, said, source, features, e, edge):  # type: ignore[no-untyped-def]
    """Add to row ``target`` of ``demand`` what a vehicle says to a phase, by the share of its ways on that it opens."""
    a, b, c, d, f, g = features[e, 0], features[e, 1], features[e, 2], features[e, 3], features[e, 4], features[e, 5]
    for o in range(said.shape[1]):
        message = said[source, o] + a * edge[0, o] + b * edge[1, o] + c * edge[2, o] + d * edge[3, o]
        message += f * edge[4, o] + g * edge[5, o]
        demand[target, o] += (f + g) * max(message, np.float32(0.0))


@compiled
def _vehicle_round(weights, at, state, edges, features, vehicle_offsets, edge_offsets):  # type: ignore[no-untyped-def]
    """``VehicleRound``, into ``state`` [V, W]; returns where the parameter after it begins."""
    width = state.shape[1]
    matrix, bias, at = _layer(weights, at, width, width)
    edge, at = _matrix(weights, at, features.shape[1], width)
    said = _linear(state, matrix, bias)
    both = np.zeros((len(state), 2 * width), np.float32)
    both[:, :width] = state
    heard = np.zeros((1, width), np.float32)
    for n in range(len(edge_offsets) - 1):
        # Edges come target by target, so that what a target hears is summed up in one place.
        e = edge_offsets[n]
        while e < edge_offsets[n + 1]:
            first, target = e, edges[e, 1]
            heard[:] = 0.0
            while e < edge_offsets[n + 1] and edges[e, 1] == target:
                _hear(heard, 0, said, vehicle_offsets[n] + edges[e, 0], features, e, edge)
                e += 1
            share = np.float32(1.0) / np.float32(e - first)
            for o in range(width):
                both[vehicle_offsets[n] + target, width + o] = share * heard[0, o]
    matrix, bias, at = _layer(weights, at, 2 * width, width)
    _add(state, _relu(_linear(both, matrix, bias)))
    return at


@compiled
def _phase_round(weights, at, state, signal, signal_edges, signal_offsets, edge_offsets):  # type: ignore[no-untyped-def]
    """``PhaseRound``, into ``state`` [P, W]; returns where the parameter after it begins."""
    width, frames = state.shape[1], len(signal_offsets) - 1
    signals = signal_offsets[frames]
    own, upstream = np.zeros((signals, width), np.float32), np.zeros((signals, width), np.float32)
    phases, neighbours = np.zeros(signals, np.float32), np.zeros(signals, np.float32)
    for p in range(len(state)):
        phases[signal[p]] += 1
        for o in range(width):
            own[signal[p], o] += state[p, o]
    for s in range(signals):
        own[s] /= max(phases[s], np.float32(1.0))
    for n in range(frames):
        for e in range(edge_offsets[n], edge_offsets[n + 1]):
            source, target = signal_offsets[n] + signal_edges[e, 0], signal_offsets[n] + signal_edges[e, 1]
            neighbours[target] += 1
            for o in range(width):
                upstream[target, o] += own[source, o]
    for s in range(signals):
        upstream[s] /= max(neighbours[s], np.float32(1.0))
    matrix, bias, at = _layer(weights, at, 3 * width, width)
    told = _linear(state, matrix[:width], bias)
    nothing = np.zeros(width, np.float32)
    heard = _add(_linear(own, matrix[width : 2 * width], nothing), _linear(upstream, matrix[2 * width :], nothing))
    for p in range(len(state)):
        for o in range(width):
            state[p, o] += max(told[p, o] + heard[signal[p], o], np.float32(0.0))
    return at


@compiled
def _log_softmax(scores, signal, signals):  # type: ignore[no-untyped-def]
    """Log-softmax of ``scores`` [P] within each signal, in place; every signal has a finite score."""
    peak = np.full(signals, -np.inf, np.float32)
    for p in range(len(scores)):
        peak[signal[p]] = max(peak[signal[p]], scores[p])
    total = np.zeros(signals, np.float32)
    for p in range(len(scores)):
        total[signal[p]] += math.exp(scores[p] - peak[signal[p]])
    for p in range(len(scores)):
        scores[p] -= peak[signal[p]] + math.log(total[signal[p]])
    return scores


@compiled
def choose(log_probs, phase_start, draws):  # type: ignore[no-untyped-def]
    """Phases int16 and their log-probabilities float32, both [N, S], for ``log_probs`` [N, P].

    ``draws`` [N, S], uniform in [0, 1), decide where in the cumulated probabilities of a signal the choice falls;
    with an empty one the likeliest phase is chosen, the first one where several are.
    """
    frames, signals = len(log_probs), len(phase_start) - 1
    chosen = np.empty((frames, signals), np.int16)
    certainty = np.empty((frames, signals), np.float32)
    for n in range(frames):
        for s in range(signals):
            first, last = phase_start[s], phase_start[s + 1]
            best, cumulated = first, 0.0
            for p in range(first, last):
                if len(draws):
                    cumulated += math.exp(log_probs[n, p])
                    if log_probs[n, p] > -np.inf:
                        best = p  # rounding may leave the sum a little below one: then it is the last allowed phase
                    if draws[n, s] < cumulated:
                        break
                elif log_probs[n, p] > log_probs[n, best]:
                    best = p
            chosen[n, s] = best - first
            certainty[n, s] = log_probs[n, best]
    return chosen, certainty
