"""Collection plans for the smallest scenario, and what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from buffers import Fragment, Slots, WeightsChannel, read_fragment
from collectors.board import Board, Wish
from collectors.collector import Collector
from collectors.places import Place
from collectors.plan import CollectionPlan
from envs import find, probe
from graph import PolicyShape, SignalPolicy

SHAPE = PolicyShape(hidden=16, vehicle_rounds=1, phase_rounds=1, history=1)
EPISODE = 200.0  # s: 20 decisions


@cache
def single() -> Place:
    """The scenario with one signal."""
    scenario = find("single")
    return Place(scenario, probe(scenario))


@cache
def arterial() -> Place:
    """The scenario with five signals."""
    scenario = find("arterial")
    return Place(scenario, probe(scenario))


def make_plan(**changes: Any) -> CollectionPlan:
    """A plan for short episodes of ``single``; ``simulation`` adds to the settings of the simulation."""
    simulation = {"episode_seconds": EPISODE, **changes.pop("simulation", {})}
    plan = CollectionPlan(
        places=(single(),),
        backend="traci",
        simulation=simulation,
        fragment_length=8,
        shape=SHAPE,
        radius=50.0,
        seed=3,
    )
    return replace(plan, **changes)


def make_weights(shape: PolicyShape = SHAPE, seed: int = 1) -> np.ndarray:
    """The weights of a policy that prefers some phases clearly, float32 [count]."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = SignalPolicy(shape)
        with torch.no_grad():
            policy.score[-1].weight.mul_(100.0)  # type: ignore[operator]
        return policy.flat_weights()


def make_channel(shape: PolicyShape = SHAPE, seed: int = 1) -> WeightsChannel:
    """A channel with these weights as version 1."""
    weights = make_weights(shape, seed)
    channel = WeightsChannel(len(weights))
    channel.publish(weights, 1)
    return channel


class Rig:
    """A collector in this process, with all that it needs and a reader; a context manager.

    It drives all envs, or one ``alone``.
    """

    def __init__(self, plan: CollectionPlan, num_envs: int = 1, alone: int | None = None, slots: int = 4):
        torch.set_num_threads(1)  # as in a collector process
        self.plan = plan
        collectors = 1 if alone is None else num_envs
        self.slots = Slots(plan.layouts(), num_envs, slots_per_env=slots, collectors=collectors, poison=True)
        self.weights = make_channel(plan.shape)
        self.board = Board(collectors, num_envs)
        for number in range(collectors):
            self.board.order(number, Wish.RUN)
        self.said: list[str] = []
        self.collector = Collector(plan, alone or 0, self.slots, self.weights, self.board, self.said.append)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.collector.close()
        self.slots.close()
        self.weights.close()
        self.board.close()

    def read(self) -> list[Fragment]:
        """All fragments that are announced by now."""
        return list(iter(lambda: take(self.slots, 0.0), None))

    def collect(self, decisions: int) -> list[Fragment]:
        """What comes until ``decisions`` decisions have been read."""
        found: list[Fragment] = []
        while sum(map(len, found)) < decisions:
            self.collector.obey()
            self.collector.round()
            found += self.read()
        return found


def take(slots: Slots, timeout: float, reader: int = 0) -> Fragment | None:
    """The next fragment, copied and its slot given back; None when none comes in ``timeout`` s."""
    announcement = slots.take(reader, timeout)
    if announcement is None or announcement.slot < 0:
        return None
    fragment = read_fragment(slots.views(announcement.slot))
    slots.release(announcement.slot)
    return fragment


PER_FRAME = ("time", "shown", "elapsed", "allowed")
PER_DECISION = ("actions", "log_probs", "rewards", "costs")


def decisions_of(fragments: Sequence[Fragment], env: int) -> list[dict[str, Any]]:
    """All decisions of one env in order: the frame before, what was decided, the frame after."""
    rows: list[dict[str, Any]] = []
    for fragment in (fragment for fragment in fragments if fragment.env == env):
        for i in range(len(fragment)):
            row: dict[str, Any] = {"episode": fragment.episode, "decision": fragment.first + i}
            row |= {name: getattr(fragment, name)[i] for name in PER_DECISION}
            row["ended"] = fragment.ended and i == len(fragment) - 1
            for suffix, frame in (("", i), ("_after", i + 1)):
                own = slice(fragment.offsets[frame], fragment.offsets[frame + 1])
                row |= {name + suffix: getattr(fragment, name)[frame] for name in PER_FRAME}
                row |= {name + suffix: getattr(fragment, name)[own] for name in ("vehicles", "lanes")}
            rows.append(row)
    return rows


def same(one: Any, other: Any) -> bool:
    """Equal to the bit: arrays of one type and shape, NaN equal to itself."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other or (one != one and other != other)


def assert_same_decisions(ones: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> None:
    """The same decisions to the bit."""
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        different = [name for name in one if not same(one[name], other[name])]
        assert not different, f"episode {one['episode']}, decision {one['decision']}: {different} differ"


def same_fragment(one: Fragment, other: Fragment) -> bool:
    """Equal to the bit, field by field."""
    return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(Fragment))
