"""What nodes and edges carry, in which order; ``graph.build`` says in which units.

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
    "waiting",  # in units of a minute, clipped
    "controlled",  # 1 if the vehicle takes orders
)
# What a policy looks at. Where a vehicle is and whither it goes tells one place from another, and would be learned by
# heart: on a network that it has never seen such a policy starves whole roads.
POLICY_VEHICLE_COLUMNS = tuple(
    VEHICLE_FEATURES.index(name) for name in ("speed", "acceleration", "lane", "waiting", "controlled")
)
# A vehicle as another one sees it: source relative to target, in the target's frame of reference.
VEHICLE_EDGE_FEATURES = ("along", "across", "relative_speed", "time_to_collision")
# Of the lanes that a phase serves: how many, and the sums of the shares of their ways on that it gives priority, and
# that have to yield. Of two phases that serve the same lanes, one may let everybody go and one those who turn left.
PHASE_FEATURES = ("shown", "elapsed", "lanes", "protected", "permissive", "allowed")
ALLOWED = PHASE_FEATURES.index("allowed")
# A vehicle as a phase that would let it go sees it; of the ways on from the stop line, the shares that the phase gives
# priority, and that have to yield.
PHASE_EDGE_FEATURES = ("distance", "arrival", "waiting", "lane", "protected", "permissive")
SHARES = slice(PHASE_EDGE_FEATURES.index("protected"), PHASE_EDGE_FEATURES.index("permissive") + 1)
TIME_FEATURES = ("sin", "cos")  # of the time of day; no policy looks at it, as it tells one map from another, too

LANES = 4.0  # the unit of lane indices and of numbers of lanes

# All columns that policies look at, in their order, as checkpoints remember them.
COLUMNS = [
    f"{owner} {name}"
    for owner, names in (
        ("vehicle", tuple(VEHICLE_FEATURES[column] for column in POLICY_VEHICLE_COLUMNS)),
        ("vehicle edge", VEHICLE_EDGE_FEATURES),
        ("phase", PHASE_FEATURES),
        ("phase edge", PHASE_EDGE_FEATURES),
    )
    for name in names
]
