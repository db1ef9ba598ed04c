"""Frames as graphs, and the networks that read them: build, cache, batch, policy, acting."""

from graph.acting import Actor
from graph.batch import Batch
from graph.build import Frames, build
from graph.dataset import ExperienceDataset
from graph.graphs import Graphs
from graph.loader import Batches, LoaderError
from graph.policy import PolicyShape, SignalPolicy
from graph.tensors import GraphTensors, to_tensors
from graph.topology import Topology

__all__ = [
    "Actor",
    "Batch",
    "Batches",
    "ExperienceDataset",
    "Frames",
    "GraphTensors",
    "Graphs",
    "LoaderError",
    "PolicyShape",
    "SignalPolicy",
    "Topology",
    "build",
    "to_tensors",
]
