"""All compiled loops of a collector, made ready before there is one."""

from __future__ import annotations

import numpy as np

from envs.codec import LaneIndex, decode_vehicles
from envs.network import Network, Signal
from envs.session import Snapshot
from envs.signals import SignalControl
from graph.acting import Actor
from graph.shape import PolicyShape
from graph.topology import Topology


def warm_up() -> None:
    """Decide once for the smallest network there is: one lane, and a signal that lets it go or not."""
    signal = Signal("signal", ("G", "r"), ((0,), ()), shares=(((1.0, 0.0),), ()), movements=((), ()), leaving=())
    network = Network(
        lane_ids=("lane_0",),
        lane_length=np.ones(1, np.float32),
        lane_speed=np.ones(1, np.float32),
        lane_index=np.zeros(1, np.int16),
        bounds=(0.0, 0.0, 1.0, 1.0),
        junction="",
        signals=(signal,),
        fixed_signals=(),
        phase_start=np.array([0, 2], np.int32),
        phase_signal=np.zeros(2, np.int32),
        phase_lanes=np.zeros((1, 2), np.int32),
        phase_lane_shares=np.array([[1.0, 0.0]], np.float32),
        approaches=np.zeros((1, 2), np.int32),
        approach_distance=np.zeros(1, np.float32),
        approach_stop=np.zeros(1, np.int32),
        lane_signal=np.zeros(1, np.int32),
        neighbours=np.zeros((0, 2), np.int32),
        inside=np.zeros((0, 2), np.int32),
        inside_start=np.zeros(0, np.float32),
    )
    vehicles, lanes, _ = decode_vehicles(b"", 0, 0, LaneIndex(network.lane_ids))
    task = SignalControl(network, yellow_time=0.0, min_green=0.0, max_red=1.0, max_hold=0.0)
    snapshot = Snapshot(0.0, vehicles, lanes)
    task.rewards(snapshot)
    actor = Actor(Topology.of(network), PolicyShape(hidden=1), radius=1.0)
    phases, _ = actor.act([0], [task.frame(snapshot)], [np.random.default_rng(0)])
    task.commands(phases[0], 0.0)
