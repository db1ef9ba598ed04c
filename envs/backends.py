"""Starting a session, by the name of its backend."""

from __future__ import annotations

from collections.abc import Sequence

from envs.network import Network
from envs.scenarios import Scenario
from envs.session import Session
from envs.variation import AS_IT_IS, Variation

_A_DAY = 86_400.0  # s; a user who looks at a simulation may stop it


def open_session(
    scenario: Scenario,
    backend: str,
    time_to_teleport: float = -1.0,
    network: Network | None = None,
    extra_options: Sequence[str] = (),
    step_limit: float = 60.0,
    start_limit: float = 60.0,
    variation: Variation = AS_IT_IS,
) -> Session:
    """Start SUMO for a scenario over ``"traci"`` (a process of its own) or ``"libsumo"`` (inside this one).

    ``time_to_teleport`` is in s, -1 for never. ``network`` saves reading it again where another session of the same
    scenario has done so. ``step_limit`` and ``start_limit`` are the seconds that a SUMO of its own process may take
    to answer and to load the scenario. ``variation`` is what each episode draws from its seed. Raises ``SumoError``
    when SUMO does not start.
    """
    # Imported here, since each backend brings a library that the other does not need.
    if backend == "libsumo":
        from envs.libsumo_session import LibsumoSession

        return LibsumoSession(scenario, time_to_teleport, network, extra_options, variation)
    if backend == "traci":
        from envs.traci_session import TraciSession

        return TraciSession(scenario, time_to_teleport, network, extra_options, start_limit, step_limit, variation)
    raise ValueError(f"backend {backend!r}: must be 'traci' or 'libsumo'")


def open_window(
    scenario: Scenario, time_to_teleport: float = -1.0, delay: float = 100.0, variation: Variation = AS_IT_IS
) -> Session:
    """Start sumo-gui for a scenario, which then runs as a session says, ``delay`` ms of real time between two steps.

    ``variation`` is what each episode draws from its seed. Needs a display; raises ``SumoError`` where there is none,
    or SUMO does not start for another reason.
    """
    from envs.traci_session import TraciSession

    options = ("--start", "--quit-on-end", "--delay", f"{delay:g}")
    return TraciSession(
        scenario,
        time_to_teleport,
        extra_options=options,
        step_limit=_A_DAY,
        variation=variation,
        program="sumo-gui",
    )
