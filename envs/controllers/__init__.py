"""Classical signal controllers: what a policy has to beat.

Two kinds share one small protocol. Those in ``timed`` leave the signals to SUMO and give it a program; those in
``responsive`` choose phases from frames, like a policy.
"""

from envs.controllers.protocol import Controller
from envs.controllers.responsive import MaxPressure, MaxWave, Random, SelfOrganizing
from envs.controllers.timed import Actuated, FixedTime
from envs.controllers.webster import Webster

__all__ = [
    "CLASSICAL",
    "Actuated",
    "Controller",
    "FixedTime",
    "MaxPressure",
    "MaxWave",
    "Random",
    "SelfOrganizing",
    "Webster",
]

CLASSICAL: dict[str, type[Controller]] = {
    "fixed": FixedTime,
    "webster": Webster,
    "actuated": Actuated,
    "max-pressure": MaxPressure,
    "max-wave": MaxWave,
    "sotl": SelfOrganizing,
    "random": Random,
}
