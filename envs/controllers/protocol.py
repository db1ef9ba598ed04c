"""What a controller is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from envs.session import Session
from envs.signals import Frame, SignalControl


class Controller(Protocol):
    """Whoever decides what the signals of one simulation show, for one episode after another."""

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """An episode has been reset with this seed; prepare the signals for it."""

    def act(self, frame: Frame) -> NDArray[np.integer] | None:
        """The wanted green phase of each signal, int [S]; None where SUMO decides."""
