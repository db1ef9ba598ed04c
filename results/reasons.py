"""Why targets are missed, by what each is about: written by people who looked into it."""

_THESE_JAMS = "the jams of eight of its twenty episodes; the median episode has 60 s."
REASONS: dict[str, str] = {
    "cologne1, last checkpoint, gridlocked episodes": (
        "vehicles that wait inside the junction to turn left and those of the next phase block one another, and no "
        "order of phases that was tried by hand freed them. It is rare, and so hard to learn from: a run of five "
        "minutes sees some 300 episodes. Tried, with one or two training runs each of 32,000 decisions, and no fewer "
        "jams in 60 episodes: what stands inside the junction as edges of the graph and in the reward; there with five "
        "times its weight; a gridlock's last reward for ever instead of its estimated value; 0.9 to 1.3 times the "
        "vehicles in training; phases drawn instead of the likeliest."
    ),
    "ingolstadt21, last checkpoint, gridlocked episodes": (
        "each of the five jams that were looked into, of policies trained for seven minutes, begins at two signals, "
        "gneJ257 and 243641585, that are 12 m apart. Where both show through traffic whose left turns have to yield, a "
        "vehicle that waits to turn left inside one junction and the full link behind it hold up the other, and no "
        "phase frees them any more. A signal does not see its exits, and a run of 20 minutes has some 65 episodes to "
        "learn from."
    ),
    "ingolstadt21, last checkpoint, against every classical controller": _THESE_JAMS,
    "ingolstadt21, last checkpoint, 0.45 times fixed time": _THESE_JAMS,
}
