"""The sections of the report: for each part what was done, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pages.tables import NOTHING, optional, paragraph, short, spread, table, tiny, whole

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """One question: its title, what was measured and how, the tables that answer it, and whether it has a picture."""

    title: str
    text: str
    tables: Callable[[Result], list[str]]
    picture: bool = False


def _stepping(result: Result) -> list[str]:
    lines: list[str] = []
    header = (
        "client",
        "every",
        "simulated s per CPU s",
        "× bare",
        "simulated s per wall s",
        "× bare",
        "× sumo-rl over TraCI",
        "vehicles",
        "arrived per h",
    )
    for network in dict.fromkeys(row["network"] for row in result["rows"]):
        cells = [
            (
                f"`{row['client']}`{' (cut)' if row['cut'] else ''}",
                f"{row['interval']:g} s",
                spread(row["per_cpu"], whole),
                spread(row.get("cpu_vs_bare"), short),
                spread(row["per_wall"], whole),
                spread(row.get("wall_vs_bare"), short),
                spread(row.get("wall_vs_sumo_rl"), short),
                optional(row["vehicles"], whole),
                whole(row["arrived_per_hour"]),
            )
            for row in result["rows"]
            if row["network"] == network
        ]
        lines += [f"**{network}**", "", *table(header, cells)]
    reasons = dict.fromkeys((row["client"], f"{row['interval']:g} s", row["why"]) for row in result["skipped"])
    lines += [f"- `{client}` every {interval}: not measured, {why}" for client, interval, why in reasons]
    return [*lines, ""] if reasons else lines


def _scaling(result: Result) -> list[str]:
    header = ("network", "every", "envs", "who", "decisions per s", "× sumo-rl", "ms of CPU each", "vehicles")
    cells = [
        (
            row["network"],
            f"{row['interval']:g} s",
            str(row["envs"]),
            f"`{row['contender']}`{' (cut)' if row['cut'] else ''}",
            spread(row["per_wall"], whole),
            spread(row.get("wall_vs_sumo_rl"), short),
            tiny(1.0 / row["per_cpu"]["median"]),
            whole(row["vehicles"]),
        )
        for row in result["rows"]
    ]
    return table(header, cells)


def _training(result: Result) -> list[str]:
    header = ("network", "who", "decisions per s", "ms of CPU each", "learner waits", "delay at the end, s per vehicle")
    cells = [
        (
            row["network"],
            f"`{row['system']}`",
            spread(row["per_wall"], whole),
            tiny(row["cpu_per_decision"]),
            optional(row.get("wait_share"), lambda value: f"{value:.0%}"),
            optional(row.get("delay"), short),
        )
        for row in result["rows"]
    ]
    commands = [f"- `{row['command']}`" for row in result["rows"] if "command" in row]
    return [*table(header, cells), "Runs:", "", *commands, ""]


def _resets(result: Result) -> list[str]:
    cells = [(row["network"], f"`{row['client']}`", spread(row["wall"], tiny)) for row in result["rows"]]
    return table(("network", "client", "ms"), cells)


def _transport(result: Result) -> list[str]:
    header = ("way", "fragments per s", "× pickling", "ms of CPU of the reader each")
    cells = [
        (
            f"`{row['way']}`",
            spread(row["per_second"], whole),
            spread(row["vs_pickling"], short),
            spread(row["cpu_per_fragment"], tiny),
        )
        for row in result["rows"]
    ]
    return table(header, cells)


def _loading(result: Result) -> list[str]:
    header = ("way", "batches per s", "ms of CPU each", "times as much by torch")
    cells = [
        (
            f"`{row['way']}`",
            spread(row["per_second"], whole),
            spread(row["cpu"], tiny),
            spread(row["cheaper"], short),
        )
        for row in result["rows"]
    ]
    said = f"Batches of {result['network']}, {result['bytes'] / 1e6:.2f} MB each."
    return [paragraph(said), "", *table(header, cells)]


def _graphs(result: Result) -> list[str]:
    header = ("network", "frames", "vehicles", "edges", "ours, ms", "PyG, ms", "times as fast")
    cells = [
        (
            row["network"],
            str(row["frames"]),
            whole(row["vehicles"]),
            whole(row["edges"]),
            spread(row["ours"], tiny),
            spread(row["pyg"], tiny),
            spread(row["faster"], short),
        )
        for row in result["rows"]
    ]
    return table(header, cells)


def _memory(result: Result) -> list[str]:
    def megabytes(value: float) -> str:
        return f"{value / 1e6:,.0f}"

    cells = [(str(row["envs"]), spread(row["bytes"], megabytes)) for row in result["rows"]]
    long = result["long"]
    episodes = f"{long['curve'][-1][0]:.0f}" if long["curve"] else NOTHING
    said = (
        f"Over {episodes} episodes of {long['episode_seconds']:g} s in each of {long['envs']} simulations of "
        f"{result['network']}: {megabytes(long['first_third'])} MB in the first third, "
        f"{megabytes(long['last_third'])} MB in the last."
    )
    header = (f"simulations of {result['network']}", "MB (PSS)")
    return [*table(header, cells), paragraph(said), ""]


SECTIONS = {
    "stepping": Section(
        "One env: how much of SUMO's own speed is left?",
        """
        Simulated seconds per second of processor time, of all processes together (parent and SUMO), and of wall time.
        *Bare* is SUMO with nobody reading: one command that simulates the whole window. The stock client reads seven
        variables of every vehicle at each decision, as this project does: with a context subscription that stands, or
        with getters. sumo-rl runs at its defaults: its observations and rewards are made of counts per lane, and its
        `info` asks every vehicle for its speed and its waiting time. With the policy, graphs are built (as a run has
        them by default, without edges between vehicles), the network runs and samples at every decision.
        `platoon-traci-policy-4` is four simulations in one process; its wall time is that of all four together, and
        they keep all cores busy, on which everybody else runs alone: cores that share a cache or are two threads of one
        do less in a second of processor time then. All
        have the same options, the trip records that this project sums delays up from included: 1 to 2 % of SUMO's
        time.

        All of them show the same greens at the same times. An untrained policy would jam the network, and everybody
        would simulate another traffic: what the policy chooses is therefore overruled by a plan, which sumo-rl chooses
        too, and which the others run as static programs. Vehicles under way on average and arrivals per simulated hour
        show how far the traffic was the same. Where a window was cut for a slow client, it has seen only the beginning
        of the episode, when there is little traffic, while *bare* has seen all of it.
        """,
        _stepping,
        picture=True,
    ),
    "scaling": Section(
        "Many envs: how many decisions per second?",
        """
        This project's collectors as a run has them, with a parent that takes fragments and gives them back, against
        sumo-rl's environments over libsumo in Gymnasium's `AsyncVectorEnv`, where the same policy network acts in the
        parent: on recorded frames, since sumo-rl's observations have no vehicles. The policy is untrained in both, and
        leads traffic badly; not equally so, as the number of vehicles shows, and part of the ratio is due to that.
        Whole episodes; resets count for this project and do not for sumo-rl. Beyond one simulation per core there is
        nothing left to gain, and caches are shared by more.
        """,
        _scaling,
        picture=True,
    ),
    "training": Section(
        "Training: how fast with everything on?",
        """
        Decisions per second over the second half of a training run; the same collectors alone, acting with the policy
        that the run has ended with; and sumo-rl with the PPO of Stable-Baselines3 (MlpPolicy, `SubprocVecEnv` of two,
        libsumo, everything at its default, ten passes over each rollout): whole cycles of a rollout and its updates,
        the first one left out. It is about throughput and not about how much is learned from a decision; ours is
        measured in the traffic of a policy that has learned for a while, PPO's near its beginning.
        """,
        _training,
    ),
    "resets": Section(
        "How long does a reset take?",
        """
        Wall time from the end of an episode, with its vehicles still on the road, to the first observation of the next
        one. sumo-rl over TraCI starts SUMO anew, and the stock client sleeps for a second when it connects too early.
        """,
        _resets,
    ),
    "transport": Section(
        "How fast do fragments travel?",
        """
        Two processes write fragments of 0.8 MB, every array from end to end; one reads. `slots`: shared memory, copied
        out by the reader as a run does. `pickled`: the same arrays through a `multiprocessing.Queue`, of which the
        reader looks at every cache line.
        """,
        _transport,
    ),
    "loading": Section(
        "How do batches travel from loader workers?",
        """
        A process that has a batch ready sends it again and again; another one takes it. `pipe`: as a run with
        `--loader-workers` does; `DataLoader`: torch's own way, through named shared memory. Processor time is that of
        both processes together.
        """,
        _loading,
    ),
    "graphs": Section(
        "How fast are graphs built?",
        """
        A batch of frames from all over an episode, on one thread. Ours: all frames at once; vehicles, the edges among
        them, phases and signals. PyG: per frame a `Data` with the same vehicle features and the same edges among
        vehicles, found by a KD-tree, joined with `Batch.from_data_list`; it has no phases and no signals. The edges are
        compared, and the measurement fails where they differ. (A run builds edges among vehicles where
        `--vehicle-rounds` asks for them.)
        """,
        _graphs,
    ),
    "memory": Section(
        "How much memory does training take?",
        "All processes of a training run, parent included; pages that processes share count once (PSS).",
        _memory,
        picture=True,
    ),
}
