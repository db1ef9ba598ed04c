"""Policies against the best classical controller of each network, episode by episode: both met the same traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from report.statistics import Summary
from results.protocol import Found
from results.targets import rows_of


@dataclass(frozen=True)
class Difference:
    """Delay of policies minus that of a controller, s, episode by episode, over vehicles that entered."""

    network: str
    controller: str
    summary: Summary
    runs: int  # training runs whose last policies' mean it is


def differences(found: Found) -> Iterator[Difference]:
    """Of each network on which policies were trained, last checkpoint against the least full delay of all others."""
    classical = found.get("yardsticks", {}).get("rows", [])
    for network in dict.fromkeys(row["network"] for row in classical):
        others = [row for row in classical if row["network"] == network]
        own = [row["delays"] for row in rows_of(found, network.removeprefix("resco:"))]
        if not own:
            continue
        best = min(others, key=lambda row: row["full_delay"]["mean"])
        each = np.mean(own, axis=0) - np.array(best["delays"])  # [episodes] s
        yield Difference(network, best["controller"], Summary.of(each), len(own))
