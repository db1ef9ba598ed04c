"""Why targets are missed, by what each is about: written by people who looked into it."""

REASONS: dict[str, str] = {
    "cologne1, last checkpoint, gridlocked episodes": (
        "one episode in fifty. Vehicles that wait inside the junction to turn left and those of the next phase block "
        "one another; from there none of seven orders of phases frees them within 90 s. It is rare, and so hard to "
        "learn from: a run of five minutes sees some 300 episodes. Tried, with one or two training runs each of 32,000 "
        "decisions, and no fewer jams (0 to 6 of 60 episodes, 1 to 4 without): "
        "what stands inside the junction as edges of the graph and in the reward; there with five times its weight; "
        "a gridlock's last reward for ever instead of its estimated value; 0.9 to 1.3 times the vehicles in training."
    ),
}
