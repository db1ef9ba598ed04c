"""SUMO as Gymnasium environments: scenarios, live sessions, tasks.

Importing this package registers ``sumo/Signals-v0``::

    import gymnasium, envs
    env = gymnasium.make("sumo/Signals-v0", scenario="single")
"""

import gymnasium

from envs.errors import ScenarioError, SumoError, SumoMissingError
from envs.network import Network, Signal
from envs.scenarios import Scenario, find
from envs.signals import Frame, SignalControl
from envs.simulation import Outcome, Simulation, probe

__all__ = [
    "Frame",
    "Network",
    "Outcome",
    "Scenario",
    "ScenarioError",
    "Signal",
    "SignalControl",
    "Simulation",
    "SumoError",
    "SumoMissingError",
    "find",
    "probe",
]

gymnasium.register(id="sumo/Signals-v0", entry_point="envs.gym_env:SignalsEnv")
