"""``sumo/Signals-v0``: signal control as a Gymnasium env, for a notebook or for any other library's learner."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.scenarios import find
from envs.session import SPEED
from envs.signals import HALTING, Frame
from envs.simulation import Simulation

_SEEDS = 2**31 - 1  # SUMO's seeds are 32-bit and signed
_TABLE_COLUMNS = 9  # those of the frame's vehicle table, and the lane


class SignalsEnv(gymnasium.Env[dict[str, Any], NDArray[np.int64]]):
    """All controllable signals of one scenario, steered together.

    ``scenario`` is a name (``python -m envs list``) or the path of a ``.sumocfg``; ``backend`` is ``"traci"`` or
    ``"libsumo"``; the other settings are those of ``envs.simulation.Simulation``, ``demand_scale="0.8:1.2"`` and
    ``departure_jitter=30.0`` among them: a seed then also decides how many vehicles come, and when.

    - Action: the wanted green phase of each signal, int64 [S]. Yellow and minimum green are kept by the env,
      whatever is asked; other rules (``max_red``, ``max_hold``) are in ``info["action_mask"]`` only.
    - Observation, with P the green phases of all signals together: ``vehicles`` float32 [V, 9] (x m, y m, speed m/s,
      acceleration m/s², angle °, position on the lane m, waiting time s, controlled, lane index in the network),
      ``phases`` float32 [P, 5] (is shown, s it has been shown, may be chosen, vehicles and standing vehicles on the
      lanes that it serves), ``time`` float32 [1] as a share of the episode.
    - Reward: for delay, or what ``reward`` names (``envs.signals.SignalControl``), the mean over signals;
      ``info["rewards"]`` and ``info["costs"]`` hold one value each.
    - ``info["action_mask"]``: bool [P], phases that may be chosen now, see
      ``envs.signals.SignalControl``; the rest as in ``Simulation.info``.

    ``env.unwrapped.network`` describes lanes, signals and phases, those that cannot be controlled too.
    """

    def __init__(
        self, scenario: str = "grid4x4", backend: str = "traci", render_mode: str | None = None, **settings: Any
    ) -> None:
        if render_mode is not None:
            raise ValueError(f"render_mode {render_mode!r}: this env renders nothing; leave it out")
        self.render_mode = None
        self._simulation = Simulation(find(scenario), backend, **settings)
        self.network = self._simulation.network
        pairs = self.network.phase_lanes
        self._serves = [pairs[pairs[:, 0] == phase, 1] for phase in range(self.network.num_phases)]
        vehicle = spaces.Box(-np.inf, np.inf, (_TABLE_COLUMNS,), np.float32)
        self.observation_space = spaces.Dict(
            {
                "vehicles": spaces.Sequence(vehicle, stack=True),
                "phases": spaces.Box(-np.inf, np.inf, (self.network.num_phases, 5), np.float32),
                "time": spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )
        self.action_space = spaces.MultiDiscrete([len(signal.greens) for signal in self.network.signals])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode on the live SUMO; a seed makes it, and those after it, reproducible."""
        super().reset(seed=seed)
        frame = self._simulation.reset(int(self.np_random.integers(_SEEDS)))
        return self._observation(frame), {**self._simulation.info(), "action_mask": frame.allowed}

    def step(self, action: NDArray[np.int64]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Simulate one decision interval."""
        self._simulation.send(action)
        outcome = self._simulation.receive()
        info = {
            **self._simulation.info(),
            "rewards": outcome.rewards,
            "costs": outcome.costs,
            "action_mask": outcome.frame.allowed,
        }
        observation = self._observation(outcome.frame)
        return observation, float(outcome.rewards.mean()), outcome.terminated, outcome.truncated, info

    def _observation(self, frame: Frame) -> dict[str, Any]:
        lanes = len(self.network.lane_ids)
        on_lane = np.bincount(frame.lanes[frame.lanes >= 0], minlength=lanes)
        standing = frame.vehicles[:, SPEED] < HALTING
        queued = np.bincount(frame.lanes[standing & (frame.lanes >= 0)], minlength=lanes)
        phases = np.zeros((self.network.num_phases, 5), np.float32)
        shown = self.network.phase_start[:-1] + frame.shown
        phases[shown, 0] = 1.0
        phases[shown, 1] = frame.elapsed
        phases[:, 2] = frame.allowed
        phases[:, 3] = [on_lane[served].sum() for served in self._serves]
        phases[:, 4] = [queued[served].sum() for served in self._serves]
        begin, end = self._simulation.scenario.begin, self._simulation.end
        share = np.array([(frame.time - begin) / (end - begin)], np.float32).clip(0.0, 1.0)
        table = np.column_stack([frame.vehicles, frame.lanes]).astype(np.float32)
        return {"vehicles": table, "phases": phases, "time": share}

    def close(self) -> None:
        """End SUMO; closing twice is fine."""
        self._simulation.close()
