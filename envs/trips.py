"""SUMO's own record of every trip, read back after an episode."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from envs.errors import SumoError

_COLUMNS = ("depart", "departDelay", "arrival", "duration", "waitingTime", "waitingCount", "timeLoss")


def trip_options(file: IO[bytes]) -> list[str]:
    """SUMO's options to write trips into an open file of this process; it needs no name, so nothing is ever left."""
    return [
        "--tripinfo-output",
        f"/proc/{os.getpid()}/fd/{file.fileno()}",
        "--tripinfo-output.write-unfinished",
        "--tripinfo-output.write-undeparted",
        "--device.emissions.probability",
        "1",
    ]


@dataclass(frozen=True, eq=False, slots=True)
class Trips:
    """All trips of one episode: those that ended, those under way, and those that could not begin; float64 [N].

    Times are in s, ``stops`` is how often a vehicle came to stand, ``co2`` is in g. ``depart`` is -1 where the vehicle
    never entered the network, ``arrival`` is -1 where it had not arrived; all else is up to the end of the episode
    then. (https://sumo.dlr.de/docs/Simulation/Output/TripInfo.html)
    """

    depart: NDArray[np.float64]
    depart_delay: NDArray[np.float64]
    arrival: NDArray[np.float64]
    duration: NDArray[np.float64]
    waiting_time: NDArray[np.float64]
    stops: NDArray[np.float64]
    time_loss: NDArray[np.float64]
    co2: NDArray[np.float64]

    @property
    def delay(self) -> NDArray[np.float64]:
        """What each vehicle has lost against driving freely, the wait to enter included, s, [N]."""
        return self.depart_delay + self.time_loss

    @property
    def departed(self) -> NDArray[np.bool_]:
        """Which vehicles entered the network, [N]."""
        return self.depart >= 0

    @property
    def arrived(self) -> NDArray[np.bool_]:
        """Which vehicles reached the end of their route, [N]."""
        return self.arrival >= 0

    def planned(self, end: float) -> NDArray[np.float64]:
        """When each vehicle meant to depart, s, [N], in an episode that was over at ``end``."""
        return np.where(self.departed, self.depart, end) - self.depart_delay


def read_trips(file: IO[bytes]) -> Trips:
    """Read what SUMO has written into a file of ``trip_options``. Raises ``SumoError`` where it is not whole."""
    file.seek(0)
    rows = []
    co2 = 0.0  # g; a vehicle that never entered the network has no record of it
    try:
        for _, element in ET.iterparse(file):  # an element ends after those inside it
            if element.tag == "emissions":
                co2 = float(element.attrib["CO2_abs"]) / 1000.0
            elif element.tag == "tripinfo":
                rows.append([*(float(element.attrib[column]) for column in _COLUMNS), co2])
                co2 = 0.0
            element.clear()
    except (ET.ParseError, KeyError, ValueError) as error:
        raise SumoError(f"SUMO's record of trips is not whole after {len(rows)} of them: {error}") from error
    return Trips(*np.array(rows, np.float64).reshape(-1, len(_COLUMNS) + 1).T)
