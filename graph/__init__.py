"""Frames as graphs, and the networks that read them: build, cache, batch, policy, acting."""

from graph.acting import Actor
from graph.batch import Batch
from graph.build import Frames, build
from graph.dataset import ExperienceDataset, make_loader
from graph.graphs import Graphs
from graph.policy import PolicyShape, SignalPolicy
from graph.tensors import GraphTensors, to_tensors
from graph.topology import Topology

__all__ = [
    "Actor",
    "Batch",
    "ExperienceDataset",
    "Frames",
    "GraphTensors",
    "Graphs",
    "PolicyShape",
    "SignalPolicy",
    "Topology",
    "build",
    "make_loader",
    "to_tensors",
]
