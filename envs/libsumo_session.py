"""SUMO inside this process, through libsumo: no socket and no second process, and one simulation at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs import sumo
from envs.errors import SumoError
from envs.last_words import LastWords
from envs.network import Network, read_network
from envs.programs import SwitchingProgram
from envs.scenarios import Scenario
from envs.session import (
    CONTROLLED,
    NUM_COLUMNS,
    SPEED,
    TOTALS,
    PhaseCommand,
    Snapshot,
    delays_under_way,
    install_programs,
    simulation_options,
)
from envs.variation import AS_IT_IS, Variation

# What fills the columns from SPEED to CONTROLLED.
_GETTERS = ("getSpeed", "getAcceleration", "getAngle", "getLanePosition", "getWaitingTime")


def _direct(getter: str) -> Callable[[str], Any]:
    """A getter of a vehicle without the Python function around it, which does nothing and costs a third."""
    import libsumo
    from libsumo import _libsumo

    return getattr(_libsumo, f"vehicle_{getter}", getattr(libsumo.vehicle, getter))


class _Lanes(dict[str, int]):
    """Numbers of lanes by their ids; -1 off the network."""

    def __missing__(self, lane: str) -> int:
        return -1


class LibsumoSession:
    """The one libsumo simulation of this process; see ``envs.session.Session`` for what each method does.

    ``variation`` is drawn from at each reset. Raises ``SumoError`` where another libsumo simulation lives in this
    process, and with SUMO's last words when it refuses. A crash of SUMO ends this process.
    """

    def __init__(
        self,
        scenario: Scenario,
        time_to_teleport: float = -1.0,
        network: Network | None = None,
        extra_options: Sequence[str] = (),
        variation: Variation = AS_IT_IS,
    ) -> None:
        # libsumo looks for its schema files while it is imported.
        os.environ.setdefault("SUMO_HOME", str(sumo.home()))
        import libsumo

        if libsumo.isLoaded():
            raise SumoError("libsumo holds one simulation per process and this process has one: use --backend traci")
        self.scenario = scenario
        self._variation = variation
        self.pids: list[int] = []
        self.client = libsumo
        self._broken = (libsumo.TraCIException, libsumo.FatalTraCIError)
        self._options = (time_to_teleport, tuple(extra_options))
        self._open = True
        self._until: float | None = None
        self._words = LastWords()
        try:
            with self.explained():
                libsumo.start([str(sumo.binary("sumo")), *self._arguments(0)])
                self.network = network or read_network(libsumo)
        except BaseException:
            self.close()  # a simulation that failed to load would still count as the one of this process
            raise
        self._lanes = _Lanes((name, number) for number, name in enumerate(self.network.lane_ids))
        self._get_lane, self._get_position = _direct("getLaneID"), _direct("getPosition")
        self._getters = [_direct(name) for name in _GETTERS]

    def _arguments(self, seed: int, varied: Sequence[str] = ()) -> list[str]:
        time_to_teleport, extra = self._options
        log = f"/proc/self/fd/{self._words.fileno()}"
        return [*simulation_options(self.scenario, seed, time_to_teleport, [*extra, *varied]), "--error-log", log]

    def reset(self, seed: int) -> None:
        with self.explained():
            self.client.load(self._arguments(seed, self._variation.options(self.scenario, seed)))

    def install(self, programs: dict[str, SwitchingProgram]) -> None:
        with self.explained():
            install_programs(self.client, self.network, programs)

    def send(self, commands: Sequence[PhaseCommand], until: float) -> None:
        """Give the commands; the simulation itself runs in ``receive``, since it runs in this very thread."""
        try:
            for command in commands:
                self.client.trafficlight.setPhase(command.signal, command.phase)
        except self._broken as error:
            raise self._explain(error) from error
        self._until = until

    def receive(self) -> Snapshot:
        assert self._until is not None, "receive() without send()"
        try:
            self.client.simulationStep(self._until)
        except self._broken as error:
            raise self._explain(error) from error
        self._until = None
        return self.observe()

    def check(self) -> None:
        """Nothing to do: SUMO lives and dies with this process."""

    def observe(self) -> Snapshot:
        # A getter costs a tenth of a microsecond here; a subscription would cost more than all of them.
        try:
            ids = self.client.vehicle.getIDList()  # sorted, as SUMO keeps its vehicles
            count = len(ids)
            places = chain.from_iterable(map(self._get_position, ids))
            others = chain.from_iterable(map(getter, ids) for getter in self._getters)
            values = np.fromiter(chain(places, others), np.float64, (2 + len(_GETTERS)) * count)
            lanes = np.fromiter(map(self._lanes.__getitem__, map(self._get_lane, ids)), np.int32, count)
            now = self.client.simulation.getTime()
        except self._broken as error:
            raise self._explain(error) from error
        table = np.zeros((count, NUM_COLUMNS), np.float32)
        table[:, :SPEED] = values[: 2 * count].reshape(count, 2)
        table[:, SPEED:CONTROLLED] = values[2 * count :].reshape(len(_GETTERS), count).T
        return Snapshot(now, table, lanes)

    def totals(self) -> dict[str, float]:
        with self.explained():
            return {name: float(self.client.simulation.getParameter("", key)) for name, key in TOTALS.items()}

    def delays_under_way(self) -> NDArray[np.float64]:
        with self.explained():
            return delays_under_way(self.client, self.network.junction)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what libsumo raises into a ``SumoError`` that quotes SUMO; costs a microsecond that decisions save."""
        try:
            yield
        except self._broken as error:
            raise self._explain(error) from error

    def _explain(self, error: BaseException) -> SumoError:
        """What libsumo raised, in one line that quotes SUMO."""
        what = " ".join(str(error).split())  # SUMO's own may have several lines
        return SumoError(f"{what} in scenario {self.scenario.name}: {self._words.quote()}")

    def finish(self) -> None:
        with self.explained():
            self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self.client.close()
            self._words.close()
