"""What decides a policy's shape, known also to those who act without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from graph import schema


@dataclass(frozen=True)
class PolicyShape:
    """What decides the shapes of a policy's weights.

    ``hidden``: width of phase and signal states; ``vehicle_rounds``, ``phase_rounds``: rounds of message passing
    among vehicles and among phases; ``history``: frames that the policy looks at, the present one included.
    """

    hidden: int = 64
    vehicle_rounds: int = 0
    phase_rounds: int = 2
    history: int = 1

    @property
    def narrow(self) -> int:
        """Width of vehicle states: vehicles are many and simple."""
        return max(16, self.hidden // 2)

    def as_dict(self) -> dict[str, int]:
        """For checkpoints."""
        return asdict(self)


def parameter_shapes(shape: PolicyShape) -> list[tuple[int, ...]]:
    """The shapes of all parameters of a ``SignalPolicy``, in their order; a test holds the two together."""
    wide, narrow = shape.hidden, shape.narrow
    vehicle_round = [
        *_linear(narrow, narrow),  # neighbour
        (narrow, len(schema.VEHICLE_EDGE_FEATURES)),  # edge
        *_linear(2 * narrow, narrow),  # update
    ]
    return [
        *_linear(len(schema.POLICY_VEHICLE_COLUMNS), narrow),  # vehicle
        *shape.vehicle_rounds * vehicle_round,
        *_linear(narrow, wide),  # served
        *_linear(len(schema.PHASE_EDGE_FEATURES), wide),  # served_edge
        *_linear(wide, wide),  # demand
        *_linear(len(schema.PHASE_FEATURES), wide),  # phase
        *(shape.history - 1) * _linear(wide, wide),  # earlier
        *shape.phase_rounds * _linear(3 * wide, wide),  # phase_rounds
        *_linear(wide, wide),  # score
        *_linear(wide, 1),
        *_linear(2 * wide, wide),  # value
        *_linear(wide, 1),
    ]


def _linear(inputs: int, outputs: int) -> list[tuple[int, ...]]:
    """A matrix and a bias."""
    return [(outputs, inputs), (outputs,)]
