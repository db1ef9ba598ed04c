"""Policies against the best classical controller of each network, episode by episode: both met the same traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from report.statistics import Summary
from results.protocol import Found


@dataclass(frozen=True)
class Difference:
    """How much less delay policies have than a controller; ``summary`` is of their delay minus its, s, by episode."""

    network: str
    controller: str
    summary: Summary
    runs: int  # training runs whose last policies' mean it is


def differences(found: Found) -> Iterator[Difference]:
    """Of each network on which policies were trained, last checkpoint against the least full delay of all others."""
    classical = found.get("yardsticks", {}).get("rows", [])
    for part in found:
        network = f"resco:{part}"
        others = [row for row in classical if row["network"] == network]
        own = [
            r["delays"] for r in found[part].get("rows", []) if (r["network"], r.get("moment", "")) == (network, None)
        ]
        if not own or not others:
            continue
        best = min(others, key=lambda row: row["full_delay"]["mean"])
        each = np.mean(own, axis=0) - np.array(best["delays"])  # [episodes] s
        yield Difference(network, best["controller"], Summary.of(each), len(own))
