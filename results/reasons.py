"""Why targets are missed, by what each is about: written by people who looked into it."""

REASONS: dict[str, str] = {
    "cologne1, last checkpoint, gridlocked episodes": (
        "vehicles that wait inside the junction to turn left and those of the next phase block one another, and no "
        "order of phases that was tried by hand freed them. It is rare, and so hard to learn from: a run of five "
        "minutes sees some 300 episodes. Tried, with one or two training runs each of 32,000 decisions, and no fewer "
        "jams in 60 episodes: what stands inside the junction as edges of the graph and in the reward; there with five "
        "times its weight; a gridlock's last reward for ever instead of its estimated value; 0.9 to 1.3 times the "
        "vehicles in training; phases drawn instead of the likeliest."
    ),
}
