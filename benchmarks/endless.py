"""Batches without end, for whoever measures how they travel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from buffers import Decision, Fragment, FragmentWriter, Slots, fragment_layout, read_fragment
from envs.signals import Frame
from graph import Batch, ExperienceDataset, Topology


class Endless(ExperienceDataset):
    """The same batch again and again, whoever reads."""

    def __init__(self, frames: Sequence[Frame], topology: Topology, fragments: int) -> None:
        signals, rows = topology.num_signals, sum(len(frame.lanes) for frame in frames)
        slots = Slots(fragment_layout(signals, topology.num_phases, len(frames) - 1, rows), 1, 1)
        super().__init__(slots, [topology], batch_fragments=fragments, radius=0.0)
        self._fragment = written(frames, slots)
        self._fragments = fragments

    def read(self, reader: int = 0, readers: int = 1) -> Iterator[Batch | None]:
        """Built once, where it is read."""
        batch = self.batch([self._fragment] * self._fragments)
        while True:
            yield batch


def written(frames: Sequence[Frame], slots: Slots) -> Fragment:
    """A fragment of these frames, at each of which nobody decided anything of interest."""
    views, nothing = slots.views(0), np.zeros(len(frames[0].shown), np.float32)
    writer = FragmentWriter(views, env=0, episode=0, first=0, version=1)
    writer.begin(frames[0])
    for frame in frames[1:]:
        writer.append(Decision(nothing.astype(np.int16), nothing, nothing, nothing), frame)
    writer.close()
    return read_fragment(views)
