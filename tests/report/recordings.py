"""A recording, made up: roads a, b and c in a row with a signal behind a and one behind b, and d, which joins b."""

from __future__ import annotations

import numpy as np

from envs.recording import GREEN, RED, Ground, Recording

LANES = ("a_0", "a_1", ":s_0_0", ":s_1_0", "b_0", ":t_0_0", "c_0", "d_0")
A, A_LEFT, S_AHEAD, S_SIDE, B, T_AHEAD, C, D = range(len(LANES))


def line(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float32)


GROUND = Ground(
    lane_ids=LANES,
    shapes=(
        line((0, 0), (100, 0)),
        line((0, 4), (100, 4)),
        line((100, 0), (110, 0)),
        line((105, -10), (110, 0)),
        line((110, 0), (210, 0)),
        line((210, 0), (220, 0)),
        line((220, 0), (320, 0)),
        line((105, -110), (105, -10)),
    ),
    lengths=np.array([100, 100, 10, 12, 100, 10, 100, 100], np.float32),
    ways=((A, B, (S_AHEAD,)), (D, B, (S_SIDE,)), (B, C, (T_AHEAD,))),
    links=np.array([(A, B), (D, B), (B, C)], np.int32),
)


def make_recording(
    sightings: list[list[tuple[int, int, float, float]]],
    lights: list[list[int]] | None = None,
    routes: tuple[tuple[str, ...], ...] = (("a", "b", "c"),),
    controller: str = "fixed",
) -> Recording:
    """A second per list of sightings: (vehicle, lane, m on the lane, m/s) each; all lights are red unless given."""
    flat = [one for instant in sightings for one in instant]
    vehicle, lanes, position, speed = np.array(flat, np.float64).reshape(-1, 4).T
    lane = lanes.astype(np.int32)
    place = np.array(
        [
            GROUND.shapes[at][0] + (GROUND.shapes[at][-1] - GROUND.shapes[at][0]) * far / GROUND.lengths[at]
            for at, far in zip(lane, position, strict=True)
        ],
        np.float32,
    ).reshape(-1, 2)
    return Recording(
        controller=controller,
        seed=1,
        ground=GROUND,
        times=np.arange(len(sightings), dtype=np.float64),
        start=np.cumsum([0, *map(len, sightings)]).astype(np.int64),
        vehicle=vehicle.astype(np.int32),
        place=place,
        speed=speed.astype(np.float32),
        lane=lane,
        position=position.astype(np.float32),
        lights=np.array(lights or [[RED] * 3] * len(sightings), np.uint8),
        routes=routes,
    )


def drive_by(controller: str = "fixed", seconds: int = 33) -> Recording:
    """One vehicle that drives from a to c at 10 m/s and finds the first light red for ten seconds, then green."""

    def at(metres: float) -> tuple[int, float]:
        for lane, begin in ((C, 220.0), (T_AHEAD, 210.0), (B, 110.0), (S_AHEAD, 100.0), (A, 0.0)):
            if metres >= begin:
                return lane, metres - begin
        raise AssertionError

    sightings = [[(0, *at(10.0 * second), 10.0)] for second in range(seconds)]
    lights = [[RED if second < 10 else GREEN, RED, GREEN] for second in range(seconds)]
    return make_recording(sightings[:32], lights[:32], controller=controller)
