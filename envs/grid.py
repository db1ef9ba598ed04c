"""The road network of a generated scenario: SUMO's netgenerate lays out the streets, we say which lane turns where.

Places: crossing B2 is in the second column from the left and the third row from below. The roads out of the grid end at
left2, right2, bottom1, top1, counted the same way. The edge from B2 to C2 is called B2C2. The names are netgenerate's.

Every edge has two lanes. Towards a crossing, lane 0 is for straight on and right and lane 1 for left, over the whole
length: so an approach is one edge, its whole queue is seen, and netconvert gives each signal four green phases. The
turn lanes that netgenerate can add by itself are separate short edges, which would hide the queue behind them.
"""

from __future__ import annotations

from collections.abc import Iterator

from envs.recipes import Recipe

# Column and row of a crossing; -1 and the number of columns or rows at the ends of the roads out.
Place = tuple[int, int]
OPPOSITE = {"left": "right", "right": "left", "bottom": "top", "top": "bottom"}
SPEED = 13.89  # m/s, that is 50 km/h


def roads(recipe: Recipe, side: str) -> int:
    """Return how many roads enter the grid on a side."""
    return recipe.rows if side in ("left", "right") else recipe.columns


def gate(recipe: Recipe, side: str, index: int) -> Place:
    """Return the crossing where the road `index` of a side meets the grid."""
    return {
        "left": (0, index),
        "right": (recipe.columns - 1, index),
        "bottom": (index, 0),
        "top": (index, recipe.rows - 1),
    }[side]


def name(recipe: Recipe, place: Place) -> str:
    """Return what a place is called."""
    column, row = place
    if column in (-1, recipe.columns):
        return f"{'left' if column < 0 else 'right'}{row}"
    if row in (-1, recipe.rows):
        return f"{'bottom' if row < 0 else 'top'}{column}"
    return f"{chr(ord('A') + column)}{row}"


def layout(recipe: Recipe) -> list[str]:
    """Return netgenerate's options for the streets: two lanes each way, a signal at each crossing."""
    return [
        "--grid",
        f"--grid.x-number={recipe.columns}",
        f"--grid.y-number={recipe.rows}",
        f"--grid.length={recipe.block:g}",
        f"--grid.attach-length={recipe.block:g}",
        "--default.lanenumber=2",
        f"--default.speed={SPEED}",
        "--default-junction-type=traffic_light",
    ]


def connections(recipe: Recipe) -> str:
    """Return the connection file for netconvert: which lane may turn where."""
    lines = "".join(f"    {line}\n" for line in _turns(recipe))
    return f"<connections>\n{lines}</connections>\n"


def _turns(recipe: Recipe) -> Iterator[str]:
    """The connections over each crossing from each of its four sides; a vehicle stays on its lane number."""
    for crossing in [(column, row) for column in range(recipe.columns) for row in range(recipe.rows)]:
        around = [name(recipe, place) for place in _around(crossing)]
        here = name(recipe, crossing)
        for side, start in enumerate(around):
            for lane, turn in ((0, 1), (0, 2), (1, 3)):  # right, ahead, left
                goal = around[(side + turn) % 4]
                yield f'<connection from="{start}{here}" to="{here}{goal}" fromLane="{lane}" toLane="{lane}"/>'


def _around(place: Place) -> list[Place]:
    """The four neighbours, counter-clockwise from the right."""
    column, row = place
    return [(column + 1, row), (column, row + 1), (column - 1, row), (column, row - 1)]
