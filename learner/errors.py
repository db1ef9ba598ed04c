"""What can go wrong in the learner's room; every message is one line that a user can act on."""

from __future__ import annotations


class LearnerError(Exception):
    """Parent of all errors that the learner raises for a person to read."""


class CheckpointError(LearnerError):
    """A checkpoint is missing, damaged, not a checkpoint, of another shape, or cannot be written."""


class UnwritableError(CheckpointError):
    """A file of the run cannot be written: the disk is full, or does not let us."""


class DivergedError(RuntimeError):
    """Learning has broken down: gradients are no numbers any more."""


class DeviceError(LearnerError, ValueError):
    """The device that was asked for is not there."""


class MetricsError(LearnerError):
    """A metrics file is in the way, missing, or holds a line that is no JSON object."""


class OutOfMemoryError(RuntimeError):
    """Not even a single fragment fits into memory, or memory ran out where other ranks wait for the result."""


class RankLostError(RuntimeError):
    """Another rank of the run has ended, or has not answered in time."""
