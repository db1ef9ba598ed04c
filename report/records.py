"""Episodes for other programs: one JSON object with everything, and a CSV with a row per episode."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from report.statistics import CONFIDENCE, FIGURES, Trial, results

_DIGITS = 6  # of a figure in a CSV: 1978, not 1977.9999999999998
_COLUMNS = ("controller", "seed", *FIGURES, "gridlocked", "wall")


def as_dict(trials: Sequence[Trial], baseline: str | None = None, **about: Any) -> dict[str, Any]:
    """What goes into report.json: ``about`` (scenario, settings, ...), every episode, and the results."""
    rows = results(trials, baseline)
    reference = next(row.controller for row in rows if row.difference is None)
    return {
        **about,
        "confidence": CONFIDENCE,
        "baseline": reference,
        "controllers": {
            row.controller: {
                **{name: summary.as_dict() for name, summary in row.figures.items()},
                "delay_difference": row.difference.as_dict() if row.difference is not None else None,
                **({"gridlocked": row.gridlocked} if row.gridlocked is not None else {}),
            }
            for row in rows
        },
        "episodes": [_plain(trial, (*_COLUMNS, "course")) for trial in trials],
    }


def as_csv(trials: Sequence[Trial]) -> str:
    """What goes into report.csv: a header, and a row per episode with whatever is a single number."""
    rows = [
        {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in row.items()}
        for row in (_plain(trial, _COLUMNS) for trial in trials)
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _plain(trial: Trial, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in names if hasattr(trial, name)}
