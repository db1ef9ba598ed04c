"""A trained policy, read back from its checkpoint or its run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph.policy import SignalPolicy
from graph.shape import PolicyShape
from learner import checkpoints
from learner.errors import CheckpointError


@dataclass(frozen=True, eq=False, slots=True)
class Trained:
    """A policy as it was saved: its model, the ``radius`` (m) of its graphs, and the settings of its simulations."""

    model: SignalPolicy
    radius: float
    env: dict[str, Any]


def read_policy(path: Path) -> Trained:
    """The policy of a checkpoint, or of the latest one in a run's folder; raises ``CheckpointError``."""
    if path.is_dir():
        newest = checkpoints.latest(path / "checkpoints") or checkpoints.latest(path)
        if newest is None:
            raise CheckpointError(f"{path}: this folder holds no checkpoint")
        path = newest
    checkpoint = checkpoints.load(path)
    missing = [key for key in ("average", "shape", "radius", "env") if key not in checkpoint]
    if missing:
        raise CheckpointError(f"{path}: is not a policy's checkpoint, it has no {missing[0]!r}")
    try:
        model = SignalPolicy(PolicyShape(**checkpoint["shape"]))
    except TypeError as error:
        raise CheckpointError(f"{path}: was written by another version of this program ({error})") from error
    try:
        checkpoints.check_columns(checkpoint)
        checkpoints.check_shapes(model.state_dict(), checkpoint["average"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.load_state_dict(checkpoint["average"])
    return Trained(model, checkpoint["radius"], checkpoint["env"])
