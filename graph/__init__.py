"""Frames as graphs, and the networks that read them: build, cache, batch, policy, acting.

What needs torch is imported when somebody asks for it: those who act, in collectors, do without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graph.acting import Actor
from graph.build import Frames, build
from graph.graphs import Graphs
from graph.shape import PolicyShape
from graph.topology import Topology

if TYPE_CHECKING:
    from graph.batch import Batch
    from graph.dataset import ExperienceDataset
    from graph.loader import Batches, LoaderError
    from graph.policy import SignalPolicy
    from graph.tensors import GraphTensors, to_tensors

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

_WITH_TORCH = {
    "Batch": "graph.batch",
    "Batches": "graph.loader",
    "ExperienceDataset": "graph.dataset",
    "GraphTensors": "graph.tensors",
    "LoaderError": "graph.loader",
    "SignalPolicy": "graph.policy",
    "to_tensors": "graph.tensors",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WITH_TORCH[name]), name)
