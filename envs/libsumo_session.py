"""SUMO inside this process, through libsumo: no socket and no second process, and one simulation at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import traci.constants as tc
from numpy.typing import NDArray

from envs import sumo
from envs.codec import COLUMNS, EVERYWHERE, VEHICLE_VARIABLES, VehicleRecords
from envs.errors import SumoError
from envs.network import Network, read_network
from envs.programs import SwitchingProgram
from envs.scenarios import Scenario
from envs.session import (
    TOTALS,
    PhaseCommand,
    Snapshot,
    delays_under_way,
    install_programs,
    make_snapshot,
    simulation_options,
)

_QUOTE = 2000  # bytes of SUMO's own words in an error


class LibsumoSession:
    """The one libsumo simulation of this process; see ``envs.session.Session`` for what each method does.

    Raises ``SumoError`` where another libsumo simulation lives in this process, and with SUMO's last words when it
    refuses. A crash of SUMO ends this process.
    """

    def __init__(
        self,
        scenario: Scenario,
        time_to_teleport: float = -1.0,
        network: Network | None = None,
        extra_options: Sequence[str] = (),
    ) -> None:
        # libsumo looks for its schema files while it is imported.
        os.environ.setdefault("SUMO_HOME", str(sumo.home()))
        import libsumo

        if libsumo.isLoaded():
            raise SumoError("libsumo holds one simulation per process and this process has one: use --backend traci")
        self.scenario = scenario
        self.pids: list[int] = []
        self.client = libsumo
        self._options = (time_to_teleport, tuple(extra_options))
        self._open = True
        self._until: float | None = None
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the session
        try:
            with self._explained():
                libsumo.start([str(sumo.binary("sumo")), *self._arguments(seed=0)])
                self.network = network or read_network(libsumo)
        except BaseException:
            self.close()  # a simulation that failed to load would still count as the one of this process
            raise
        self._lane_lookup = self.network.lane_lookup()

    def _arguments(self, seed: int) -> list[str]:
        time_to_teleport, extra = self._options
        log = f"/proc/self/fd/{self._words.fileno()}"
        return [*simulation_options(self.scenario, seed, time_to_teleport, extra), "--error-log", log]

    def reset(self, seed: int) -> None:
        with self._explained():
            self.client.load(self._arguments(seed))

    def install(self, programs: dict[str, SwitchingProgram]) -> None:
        with self._explained():
            install_programs(self.client, self.network, programs)

    def send(self, commands: Sequence[PhaseCommand], until: float) -> None:
        """Give the commands; the simulation itself runs in ``receive``, since it runs in this very thread."""
        with self._explained():
            for command in commands:
                self.client.trafficlight.setPhase(command.signal, command.phase)
        self._until = until

    def receive(self) -> Snapshot:
        assert self._until is not None, "receive() without send()"
        with self._explained():
            self.client.simulationStep(self._until)
        self._until = None
        return self.observe()

    def observe(self) -> Snapshot:
        client, junction = self.client, self.network.junction
        with self._explained():
            client.junction.subscribeContext(junction, tc.CMD_GET_VEHICLE_VARIABLE, EVERYWHERE, VEHICLE_VARIABLES)
            # With nobody in range libsumo keeps the results of the time before.
            found = client.junction.getContextSubscriptionResults(junction) if client.vehicle.getIDCount() else {}
            client.junction.unsubscribeContext(junction, tc.CMD_GET_VEHICLE_VARIABLE, EVERYWHERE)
            totals = {name: float(client.simulation.getParameter("", key)) for name, key in TOTALS.items()}
            now = client.simulation.getTime()
        ids = sorted(found)
        rows = [found[name] for name in ids]
        values = np.empty((len(ids), COLUMNS))
        values[:, :2] = [row[tc.VAR_POSITION] for row in rows] or np.empty((0, 2))
        for column, variable in enumerate(VEHICLE_VARIABLES[1:-1], start=2):
            values[:, column] = [row[variable] for row in rows]
        lanes = [row[tc.VAR_LANE_ID].encode() for row in rows]
        return make_snapshot(now, VehicleRecords([n.encode() for n in ids], values, lanes), self._lane_lookup, totals)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what libsumo raises into a ``SumoError`` that quotes SUMO."""
        try:
            yield
        except (self.client.TraCIException, self.client.FatalTraCIError) as error:
            size = os.fstat(self._words.fileno()).st_size
            words = os.pread(self._words.fileno(), _QUOTE, max(0, size - _QUOTE)).decode(errors="replace").split("\n")
            quote = " / ".join(line.strip() for line in words[-6:] if line.strip()) or "SUMO said nothing more"
            what = " ".join(str(error).split())  # SUMO's own may have several lines
            raise SumoError(f"{what} in scenario {self.scenario.name}: {quote}") from error

    def delays_under_way(self) -> NDArray[np.float64]:
        with self._explained():
            return delays_under_way(self.client, self.network.junction)

    def finish(self) -> None:
        with self._explained():
            self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self.client.close()
            self._words.close()
