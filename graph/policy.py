"""The policy: scores every green phase of every signal, and values every signal, on graphs of any size."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector

from graph import schema
from graph.shape import PolicyShape
from graph.tensors import GraphTensors


class VehicleRound(nn.Module):
    """One round among vehicles: the mean over neighbours of what each one and the edge to it say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.neighbour = nn.Linear(width, width)
        self.edge = nn.Linear(len(schema.VEHICLE_EDGE_FEATURES), width, bias=False)
        self.update = nn.Linear(2 * width, width)

    def forward(self, vehicles: Tensor, graph: GraphTensors) -> Tensor:
        """[V, W] to [V, W]."""
        said = self.neighbour(vehicles)[graph.vehicle_source] + self.edge(graph.vehicle_edge_features)  # [E, W]
        heard = mean_by(torch.relu(said), graph.vehicle_target, len(vehicles))
        return vehicles + torch.relu(self.update(torch.cat([vehicles, heard], dim=1)))


class PhaseRound(nn.Module):
    """One round among phases: each hears the mean of its signal's phases, and that of the signals upstream.

    It equals message passing over all pairs of phases inside a signal and between neighbouring signals, with messages
    that do not depend on the receiver; going through one state per signal makes it linear instead of quadratic.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.update = nn.Linear(3 * width, width)

    def forward(self, phases: Tensor, graph: GraphTensors) -> Tensor:
        """[P, W] to [P, W]."""
        signals, width = len(graph.signal_start), phases.shape[1]
        own = mean_by(phases, graph.phase_signal, signals)  # [S, W]
        upstream = mean_by(own[graph.signal_source], graph.signal_target, signals)
        # One layer on [phase, own, upstream]; what a signal's phases have in common is multiplied once per signal.
        heard = functional.linear(torch.cat([own, upstream], dim=1), self.update.weight[:, width:])
        told = functional.linear(phases, self.update.weight[:, :width], self.update.bias)
        return phases + torch.relu(told + heard[graph.phase_signal])


class SignalPolicy(nn.Module):
    """Actor and critic on vehicle and phase nodes, the same weights for every phase of every signal of every map.

    Vehicles hear their neighbours (in ``vehicle_rounds``, by default in none), phases sum over the vehicles that they
    would let go, each of which counts by the share of its ways on that the phase lets go, and phases hear each other;
    a softmax inside each signal is the policy, a value per signal the critic.
    """

    vehicle_columns: Tensor  # int64 [5], of schema.VEHICLE_FEATURES: those that it looks at

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__()
        self.shape = shape
        narrow = shape.narrow
        self.register_buffer("vehicle_columns", torch.tensor(schema.POLICY_VEHICLE_COLUMNS), persistent=False)
        self.vehicle = nn.Linear(len(schema.POLICY_VEHICLE_COLUMNS), narrow)
        self.vehicle_rounds = nn.ModuleList(VehicleRound(narrow) for _ in range(shape.vehicle_rounds))
        self.served = nn.Linear(narrow, shape.hidden)
        self.served_edge = nn.Linear(len(schema.PHASE_EDGE_FEATURES), shape.hidden)
        self.demand = nn.Linear(shape.hidden, shape.hidden)
        self.phase = nn.Linear(len(schema.PHASE_FEATURES), shape.hidden)
        self.earlier = nn.ModuleList(nn.Linear(shape.hidden, shape.hidden) for _ in range(shape.history - 1))
        self.phase_rounds = nn.ModuleList(PhaseRound(shape.hidden) for _ in range(shape.phase_rounds))
        self.score = head(shape.hidden, shape.hidden)
        self.value = head(2 * shape.hidden, shape.hidden)

    def forward(self, graph: GraphTensors) -> tuple[Tensor, Tensor]:
        """Log-probabilities of all phases [P], -inf where a phase may not be chosen, and values of signals [S].

        Both are float32, whatever autocast computes with.
        """
        phases = self._encode(graph)
        for layer in self.phase_rounds:
            phases = layer(phases, graph)
        scores = self.score(phases).squeeze(1).float()
        allowed = graph.phases[:, schema.ALLOWED] > 0.5
        scores = scores.masked_fill(~allowed, -torch.inf)
        signals = len(graph.signal_start)
        pooled = torch.cat(
            [mean_by(phases, graph.phase_signal, signals), max_by(phases, graph.phase_signal, signals)], dim=1
        )
        return log_softmax_by(scores, graph.phase_signal, signals), self.value(pooled).squeeze(1).float()

    def flat_weights(self) -> NDArray[np.float32]:
        """All weights as one vector of their own, the way they travel to those who act."""
        return parameters_to_vector(self.parameters()).detach().float().cpu().numpy()

    def _encode(self, graph: GraphTensors) -> Tensor:
        """State of every phase node before phases talk to each other, [P, W]."""
        vehicles = torch.relu(self.vehicle(graph.vehicles[:, self.vehicle_columns]))
        for layer in self.vehicle_rounds:
            vehicles = layer(vehicles, graph)
        said = self.served(vehicles)[graph.served_vehicle] + self.served_edge(graph.phase_edge_features)
        # Which way on a vehicle will take is not known: it counts by the share of them that the phase lets go.
        share = graph.phase_edge_features[:, schema.SHARES].sum(1, keepdim=True)
        # A sum and not a mean: how many wait is what matters. 0.1 keeps a queue of ten near one.
        demand = 0.1 * sum_by(share * torch.relu(said), graph.serving_phase, len(graph.phases))
        phases = torch.relu(self.phase(graph.phases) + self.demand(demand))
        combined = phases
        for layer, rows in zip(self.earlier, graph.history, strict=True):
            known = (rows >= 0).unsqueeze(1)
            combined = combined + torch.relu(layer(phases[rows.clamp(min=0)])) * known
        return combined


def head(inputs: int, width: int) -> nn.Sequential:
    """One number per row; near zero at first, so that learning starts from the uniform policy and from no value."""
    last = nn.Linear(width, 1)
    with torch.no_grad():
        last.weight.mul_(0.1)
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), last)


def sum_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum of the rows of ``values`` [N, W] that share an index, float32 [size, W].

    Never in half precision, whatever autocast says: a long queue would be rounded away.
    """
    return values.new_zeros(size, values.shape[1], dtype=torch.float32).index_add_(0, index, values.float())


def mean_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Mean of the rows of ``values`` [N, W] that share an index, [size, W]; zero where there are none."""
    count = torch.bincount(index, minlength=size)
    return sum_by(values, index, size) / count.clamp(min=1).unsqueeze(1)


def max_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Maximum per column over the rows of ``values`` [N, W] that share an index, [size, W]."""
    target = values.new_full((size, values.shape[1]), -torch.inf)
    return target.scatter_reduce(0, index.unsqueeze(1).expand_as(values), values, "amax")


def log_softmax_by(scores: Tensor, index: Tensor, size: int) -> Tensor:
    """Log-softmax of ``scores`` [P] among those that share an index; every index has a finite score."""
    peak = scores.new_full((size,), -torch.inf).scatter_reduce(0, index, scores.detach(), "amax")
    shifted = scores - peak[index]
    total = scores.new_zeros(size).index_add_(0, index, shifted.exp())
    return shifted - total.log()[index]


def entropy_by(log_probs: Tensor, index: Tensor, size: int) -> Tensor:
    """Entropy of the choice of each signal in nats, [size]; phases that may not be chosen count nothing."""
    finite = log_probs.masked_fill(log_probs.isinf(), 0.0)
    return log_probs.new_zeros(size).index_add_(0, index, -log_probs.exp() * finite)


def mean_log_prob_by(log_probs: Tensor, index: Tensor, size: int) -> Tensor:
    """Mean of the log-probabilities [P] that share an index, [size]; phases that may not be chosen count nothing."""
    finite = ~log_probs.isinf()
    return mean_by(log_probs[finite].unsqueeze(1), index[finite], size).squeeze(1)
