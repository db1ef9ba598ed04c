"""What nodes and edges carry, in which order and in which units.

Every feature is scaled to about one. Names and order are part of the checkpoint format: a policy that was trained with
one order cannot act with another.
"""

from __future__ import annotations

VEHICLE_FEATURES = (
    "x",  # min-max over the network, [0, 1]
    "y",
    "speed",  # z-score
    "acceleration",  # clamped to ±5 m/s², scaled to ±1
    "heading_sin",
    "heading_cos",
    "lane",  # index from the right, in units of LANES
    "waiting",  # in units of WAITING_SCALE, clipped
    "controlled",  # 1 if the vehicle takes orders
)
# A vehicle as another one sees it: source relative to target, in the target's frame of reference.
VEHICLE_EDGE_FEATURES = ("along", "across", "relative_speed", "time_to_collision")
PHASE_FEATURES = ("shown", "elapsed", "lanes", "allowed")
# A vehicle as a phase that would let it go sees it.
PHASE_EDGE_FEATURES = ("distance", "arrival", "waiting", "lane")
TIME_FEATURES = ("sin", "cos")  # of the time of day

SPEED_MEAN = 15.0  # m/s
SPEED_DEVIATION = 5.0  # m/s, also the unit of relative speeds
ACCELERATION_LIMIT = 5.0  # m/s²
LANES = 4.0
WAITING_SCALE = 60.0  # s
WAITING_LIMIT = 5.0  # in units of WAITING_SCALE
ELAPSED_SCALE = 60.0  # s
ELAPSED_LIMIT = 3.0  # in units of ELAPSED_SCALE
COLLISION_LIMIT = 10.0  # s: times to collision beyond this are alike
DISTANCE_SCALE = 100.0  # m
DISTANCE_LIMIT = 5.0  # in units of DISTANCE_SCALE
ARRIVAL_LIMIT = 60.0  # s: later arrivals are alike
CRAWLING = 0.5  # m/s: the least speed assumed for times to arrival
DAY = 86400.0  # s
