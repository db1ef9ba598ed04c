"""Why targets are missed, by what each is about: written by people who looked into it."""

from __future__ import annotations

import statistics

from results.protocol import Found

_THESE_JAMS = "the jams of {gridlocked} of its {episodes} episodes; the median episode has {median:.0f} s."
REASONS: dict[str, str] = {
    "ingolstadt21, last checkpoint, gridlocked episodes": (
        "nearly all jams that were looked into begin at two signals, gneJ257 and 243641585, 12 m apart. Who waits "
        "inside one of them to turn left waits for somebody who has not quite left it, since he stands in a queue "
        "of one or two on the 12 m behind a bus, say, that waits inside the other one likewise: a circle that no "
        "phase ends. The classical controllers that react to traffic jam here, too.\n"
        "  - No single choice is to blame: from 40 s before the first of them stands for good, one continuation in two "
        "escapes, whatever phases it begins with, so that an episode says little about what was wrong.\n"
        "  - How many jam is a matter of chance: two checkpoints 8 s apart had 4 and 8 of 20, another training run "
        "(--seed 2, ten minutes) 10 of 30. Longer training makes no fewer.\n"
        "  - Both signals taking turns through all of their phases mostly avoid it, at the price of some 10 s for "
        "everybody.\n"
        "  - Tried, with one training run each of 7 to 25 minutes, after which between a quarter and nearly all of 8 "
        "to 20 episodes gridlocked. What is seen and learned: exits in the graph; smaller batches; a discount of 0.99; "
        "weights averaged over the last 80 or 200 s; a gridlock's last reward for ever; vehicles that count more the "
        "longer they have stood; the rewards of a near neighbour's lanes.\n"
        "  - Tried likewise, of what a policy may choose: no green for ways onto a road with somebody standing on its "
        "first 12.5 m; at these signals, phases in the order of their own programs, and no phase that leaves somebody "
        "at red on the 12 m; a phase with priority for who waits there or inside, at once or after 20 to 80 s, for one "
        "turn or more (by hand); at red for at most 60 s, and less where signals are near; phases drawn instead of the "
        "likeliest."
    ),
    "ingolstadt21, last checkpoint, against every classical controller": _THESE_JAMS,
    "ingolstadt21, last checkpoint, 0.45 times fixed time": _THESE_JAMS,
}


def why(about: str, found: Found) -> str:
    """The reason for which a target is missed, with the figures of the policies that missed it."""
    words = REASONS.get(about, "not looked into")
    last = [row for row in found.get(about.partition(",")[0], {}).get("rows", ()) if row["moment"] is None]
    delays = [delay for row in last for delay in row["delays"]]
    if not delays:
        return words
    jams = sum(row["gridlocked"] for row in last)
    return words.format(gridlocked=jams, episodes=len(delays), median=statistics.median(delays))
