"""TraCI messages as bytes: what is sent per decision is composed here, what comes back is decoded with numpy.

A TraCI message is a four-byte length and a row of commands; a command is a length, an identifier and a body
(https://sumo.dlr.de/docs/TraCI/Protocol.html). All numbers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import traci.constants as tc
from numpy.typing import NDArray

_INT = struct.Struct("!i")
_OPEN_ENDED = struct.pack("!dd", tc.INVALID_DOUBLE_VALUE, tc.INVALID_DOUBLE_VALUE)
EVERYWHERE = 1e9  # m: a radius around one junction that covers every network

# What is read of every vehicle. All but the last have a fixed length, so that a record is the vehicle's id,
# a block of constant layout, and the lane's id.
VEHICLE_VARIABLES = (
    tc.VAR_POSITION,
    tc.VAR_SPEED,
    tc.VAR_ACCELERATION,
    tc.VAR_ANGLE,
    tc.VAR_LANEPOSITION,
    tc.VAR_WAITING_TIME,
    tc.VAR_LANE_ID,
)
COLUMNS = 7  # doubles per vehicle: x, y, speed, acceleration, angle, lane position, waiting time

_POSITION = struct.pack("!BBB", tc.VAR_POSITION, tc.RTYPE_OK, tc.POSITION_2D) + bytes(16)
_DOUBLES = b"".join(struct.pack("!BBB", v, tc.RTYPE_OK, tc.TYPE_DOUBLE) + bytes(8) for v in VEHICLE_VARIABLES[1:-1])
_LANE = struct.pack("!BBB", tc.VAR_LANE_ID, tc.RTYPE_OK, tc.TYPE_STRING)
_TEMPLATE = np.frombuffer(_POSITION + _DOUBLES + _LANE, np.uint8)
_FIXED = len(_TEMPLATE)
_VALUES = np.concatenate(
    [np.arange(3, 19), *(np.arange(19 + 11 * k + 3, 19 + 11 * (k + 1)) for k in range(COLUMNS - 2))]
)
_MARKERS = np.setdiff1d(np.arange(_FIXED), _VALUES)


class ProtocolError(RuntimeError):
    """SUMO's reply does not read as TraCI, or carries an error status."""


@dataclass(frozen=True, slots=True)
class VehicleRecords:
    """Every vehicle of one bulk read, in the order of the reply (sorted by id).

    ``values`` is float64 [V, 7]: x m, y m, speed m/s, acceleration m/s², angle °, lane position m, waiting time s.
    """

    ids: list[bytes]
    values: NDArray[np.float64]
    lanes: list[bytes]


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _INT.pack(len(encoded)) + encoded


def command(identifier: int, body: bytes) -> bytes:
    """One command: its length (extended where it exceeds a byte), its identifier, its body."""
    length = len(body) + 2
    if length <= 255:
        return struct.pack("!BB", length, identifier) + body
    return struct.pack("!BiB", 0, length + 4, identifier) + body


def message(*commands: bytes) -> bytes:
    """Commands as one message."""
    body = b"".join(commands)
    return _INT.pack(len(body) + 4) + body


def step_until(time: float) -> bytes:
    """Simulate until ``time`` (s)."""
    return command(tc.CMD_SIMSTEP, struct.pack("!d", time))


def set_phase(signal: str, phase: int) -> bytes:
    """Jump to a phase of the signal's current program."""
    return command(
        tc.CMD_SET_TL_VARIABLE,
        struct.pack("!B", tc.TL_PHASE_INDEX) + _text(signal) + struct.pack("!Bi", tc.TYPE_INTEGER, phase),
    )


def get(domain: int, variable: int, key: str | None = None) -> bytes:
    """Read a simulation-wide variable, or the simulation parameter ``key``."""
    parameter = b"" if key is None else struct.pack("!B", tc.TYPE_STRING) + _text(key)
    return command(domain, struct.pack("!B", variable) + _text("") + parameter)


def read_all_vehicles(junction: str) -> tuple[bytes, bytes]:
    """Subscribe to every vehicle around a junction, and drop that subscription again.

    Together in one message they are a bulk read of this instant: a subscription that stood would be evaluated
    at every simulation step, also at those between two decisions.
    """

    def subscribe(variables: Sequence[int]) -> bytes:
        context = struct.pack("!BdB", tc.CMD_GET_VEHICLE_VARIABLE, EVERYWHERE, len(variables)) + bytes(variables)
        return command(tc.CMD_SUBSCRIBE_JUNCTION_CONTEXT, _OPEN_ENDED + _text(junction) + context)

    return subscribe(VEHICLE_VARIABLES), subscribe(())


class Reply:
    """A reply's bytes and the place up to which they have been read."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def _unpack(self, layout: struct.Struct) -> tuple:
        try:
            values = layout.unpack_from(self._content, self._position)
        except struct.error as error:
            raise ProtocolError(f"SUMO's reply ends at byte {len(self._content)}, in the middle of a value") from error
        self._position += layout.size
        return values

    def _string(self) -> str:
        (length,) = self._unpack(_INT)
        end = self._position + length
        if length < 0 or end > len(self._content):
            raise ProtocolError(f"SUMO's reply names a text of {length} bytes and has {len(self._content)} in all")
        text = self._content[self._position : end].decode(errors="replace")
        self._position = end
        return text

    def status(self, expected: int) -> None:
        """Read the status of a command; raise ``ProtocolError`` with SUMO's words where it is not OK."""
        (length,) = self._unpack(_BYTE)
        if length == 0:
            self._unpack(_INT)
        identifier, result = self._unpack(_TWO_BYTES)
        words = self._string()
        if result != tc.RTYPE_OK:
            raise ProtocolError(f"SUMO refused command 0x{identifier:02x}: {words or 'no reason given'}")
        if identifier != expected:
            raise ProtocolError(f"SUMO answered command 0x{identifier:02x} where 0x{expected:02x} had been asked")

    def value(self, domain: int) -> float | str:
        """Read the answer to a ``get``: an int, a double or a text."""
        self.status(domain)
        (length,) = self._unpack(_BYTE)
        if length == 0:
            self._unpack(_INT)
        self._unpack(_TWO_BYTES)  # response identifier, variable
        self._string()  # the object's id
        (kind,) = self._unpack(_BYTE)
        if kind == tc.TYPE_INTEGER:
            return self._unpack(_INT)[0]
        if kind == tc.TYPE_DOUBLE:
            return self._unpack(_DOUBLE)[0]
        if kind == tc.TYPE_STRING:
            return self._string()
        raise ProtocolError(f"SUMO answered with a value of type 0x{kind:02x}; an int, a double or a text was expected")

    def vehicles(self) -> VehicleRecords:
        """Read the answer to ``read_all_vehicles``: two statuses and, between them, one record per vehicle."""
        self.status(tc.CMD_SUBSCRIBE_JUNCTION_CONTEXT)
        extended, _, identifier = self._unpack(_CONTEXT_HEAD)  # the length is always given as an extended one
        if extended or identifier != tc.RESPONSE_SUBSCRIBE_JUNCTION_CONTEXT:
            raise ProtocolError(f"SUMO sent response 0x{identifier:02x} where the vehicles were expected")
        self._string()  # the junction
        _, variables = self._unpack(_TWO_BYTES)
        (count,) = self._unpack(_INT)
        if variables != len(VEHICLE_VARIABLES) or not 0 <= count <= len(self._content) // _FIXED:
            raise ProtocolError(f"SUMO's reply announces {count} vehicles with {variables} variables each")
        records, self._position = decode_vehicles(self._content, self._position, count)
        self.status(tc.CMD_SUBSCRIBE_JUNCTION_CONTEXT)
        return records


_BYTE = struct.Struct("!B")
_TWO_BYTES = struct.Struct("!BB")
_DOUBLE = struct.Struct("!d")
_CONTEXT_HEAD = struct.Struct("!BiB")


def decode_vehicles(content: bytes, start: int, count: int) -> tuple[VehicleRecords, int]:
    """Decode ``count`` vehicle records from ``start`` on; also return where they end.

    Ids have no fixed length, so one light loop finds where each record's constant block lies; the blocks are then
    gathered and read all at once. Raises ``ProtocolError`` on truncated bytes and on any variable that SUMO could
    not give.
    """
    ids: list[bytes] = []
    lanes: list[bytes] = []
    blocks = np.empty(count, np.intp)
    length_at = _INT.unpack_from
    position = start
    try:
        for row in range(count):
            first = position + 4
            block = first + length_at(content, position)[0]
            ids.append(content[first:block])
            blocks[row] = block
            lane = block + _FIXED + 4
            position = lane + length_at(content, lane - 4)[0]
            lanes.append(content[lane:position])
            if block < first or position < lane:
                raise ProtocolError(f"SUMO's reply has a text of negative length in vehicle record {row} of {count}")
    except struct.error as error:
        raise ProtocolError(f"SUMO's reply ends in the middle of vehicle record {len(ids)} of {count}") from error
    if position > len(content):
        raise ProtocolError(f"SUMO's reply ends in the middle of vehicle record {count - 1} of {count}")
    if count == 0:
        return VehicleRecords([], np.empty((0, COLUMNS)), []), position
    raw = np.frombuffer(content, np.uint8)[blocks[:, None] + np.arange(_FIXED)]
    unexpected = (raw[:, _MARKERS] != _TEMPLATE[_MARKERS]).any(axis=1)
    if unexpected.any():
        row = int(unexpected.argmax())
        raise ProtocolError(f"SUMO could not give every variable of vehicle {ids[row].decode(errors='replace')!r}")
    values = np.ascontiguousarray(raw[:, _VALUES]).view(">f8").astype(np.float64)
    return VehicleRecords(ids, values, lanes), position
