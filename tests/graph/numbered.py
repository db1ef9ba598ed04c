"""Environments of two networks that number their frames: every array says which env, episode and frame it belongs to.

Whatever a frame or a decision holds is a function of these three numbers, so that a reader can say what must have been
in it. Lengths of episodes and fragments are random, but the same for the same env.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np

from buffers.fragments import SUMMARY, Decision, FragmentWriter, fragment_layout
from buffers.layout import Layout
from buffers.slots import Slots
from envs.network import Network
from envs.signals import Frame
from tests.graph.examples import make_decision, make_frame, make_network
from tests.processes import LIMIT

NETWORKS = (make_network(11), make_network(12, signals=5, lanes=20))
EPISODES = 5
LENGTH = 7  # decisions of a fragment at most
VEHICLES = 9  # of a frame at most
ROWS = 40  # vehicles that a slot holds: fewer than LENGTH + 1 frames may have
_SEED = 20_000


def numbers(env: int, episode: int, frame: int) -> np.random.Generator:
    """The generator of everything in one frame."""
    return np.random.default_rng([_SEED, env, episode, frame])


def network_of(env: int) -> Network:
    """The network of an env."""
    return NETWORKS[env % len(NETWORKS)]


def layouts() -> list[Layout]:
    """Of the slots of all envs in turn."""
    return [fragment_layout(len(net.phase_start) - 1, net.num_phases, LENGTH, ROWS) for net in NETWORKS]


def frame_of(env: int, episode: int, number: int) -> Frame:
    """Frame ``number`` of an episode."""
    generator = numbers(env, episode, number)
    return make_frame(generator, network_of(env), int(generator.integers(0, VEHICLES + 1)), time=10.0 * number)


def decision_of(env: int, episode: int, number: int) -> Decision:
    """What was decided at frame ``number`` of an episode."""
    return make_decision(numbers(env, episode, number), network_of(env), frame_of(env, episode, number))


def episode_length(env: int, episode: int) -> int:
    """Decisions of an episode."""
    return int(numbers(env, episode, 2**31).integers(1, 40))


def terminates(env: int, episode: int) -> bool:
    """Whether an episode ends in a terminal state, and not because its time is over."""
    return (env + episode) % 2 == 0


def version_of(env: int, episode: int, first: int) -> int:
    """The version of the weights that acted in a fragment."""
    return 1000 * env + 100 * episode + first


def fill(slots: Slots, env: int) -> Iterator[bool]:
    """Write all episodes of an env; yields True after every fragment, False when no slot is free."""
    chance = np.random.default_rng([_SEED, env])
    sequence = 0
    for episode in range(EPISODES):
        now, length = 0, episode_length(env, episode)
        while now < length:
            while (slot := slots.begin(env)) is None:
                yield False
            writer = FragmentWriter(slots.views(slot), env, episode, now, version_of(env, episode, now))
            writer.begin(frame_of(env, episode, now))
            wanted = int(chance.integers(1, LENGTH + 1))
            while now < length and writer.length < wanted:
                if not writer.append(decision_of(env, episode, now), frame_of(env, episode, now + 1)):
                    break
                now += 1
            if now == length:
                ended = terminates(env, episode)
                writer.end_episode(ended, not ended, dict.fromkeys(SUMMARY, float(100 * env + episode)))
            writer.close()
            sequence += 1
            slots.finish(slot, sequence)
            yield True


def write(connection: Connection, slots: Slots, envs: list[int]) -> None:
    """A process that fills the slots of several envs; says so when it is held back for the first time."""
    writers = {env: fill(slots, env) for env in envs}
    held_back = False
    while writers:
        for env in envs:
            slots.doorbell(env).answer()
        progress = False
        for env, writer in list(writers.items()):
            wrote = next(writer, None)
            if wrote is None:
                del writers[env]
            progress |= wrote is not False
        if not progress:
            if not held_back:
                held_back = True
                connection.send("held back")
            bells = [slots.doorbell(env).fileno() for env in writers]
            assert select.select(bells, [], [], LIMIT)[0], "nobody gives slots back"
    connection.send("done")
