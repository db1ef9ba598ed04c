"""TraCI messages as bytes: what is sent per decision is composed here, what comes back is decoded in compiled loops.

A TraCI message is a four-byte length and a row of commands; a command is a length, an identifier and a body
(https://sumo.dlr.de/docs/TraCI/Protocol.html). All numbers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import traci.constants as tc
from numpy.typing import NDArray

from envs.compiled import compiled

_INT = struct.Struct("!i")
_OPEN_ENDED = struct.pack("!dd", tc.INVALID_DOUBLE_VALUE, tc.INVALID_DOUBLE_VALUE)
_NEVER = struct.pack("!dd", 1e9, 2e9)  # s: from when to when, long after every simulation
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
COLUMNS = 7  # numbers per vehicle: x, y, speed, acceleration, angle, lane position, waiting time

_POSITION = struct.pack("!BBB", tc.VAR_POSITION, tc.RTYPE_OK, tc.POSITION_2D) + bytes(16)
_DOUBLES = b"".join(struct.pack("!BBB", v, tc.RTYPE_OK, tc.TYPE_DOUBLE) + bytes(8) for v in VEHICLE_VARIABLES[1:-1])
_LANE = struct.pack("!BBB", tc.VAR_LANE_ID, tc.RTYPE_OK, tc.TYPE_STRING)
_BLOCK = np.frombuffer(_POSITION + _DOUBLES + _LANE, np.uint8)
# Where in the block the numbers begin; all other bytes are the same for every vehicle.
_NUMBERS = np.array([3, 11, *(19 + 11 * k + 3 for k in range(COLUMNS - 2))])
_MARKERS = np.setdiff1d(np.arange(len(_BLOCK)), (_NUMBERS[:, None] + np.arange(8)).ravel())


class ProtocolError(RuntimeError):
    """SUMO's reply does not read as TraCI, or carries an error status."""


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


def read_all_vehicles(junction: str) -> bytes:
    """Subscribe to every vehicle around a junction from a time on that never comes.

    SUMO answers a subscription at once, whatever time it is for, and that answer is all that is wanted: a bulk read
    of this instant. One that stood would be evaluated at every simulation step, also at those between two decisions;
    and what began before the present, as an open-ended one does, SUMO would also copy into the answer to the last
    step, byte by byte.
    """
    return _subscribe(junction, _NEVER)


def watch_all_vehicles(junction: str) -> bytes:
    """Subscribe to every vehicle around a junction for good: the answer to every step brings them."""
    return _subscribe(junction, _OPEN_ENDED)


def drop_subscriptions(junction: str) -> bytes:
    """End all subscriptions around a junction."""
    return _subscribe(junction, _OPEN_ENDED, ())


def _subscribe(junction: str, period: bytes, variables: Sequence[int] = VEHICLE_VARIABLES) -> bytes:
    head = struct.pack("!BdB", tc.CMD_GET_VEHICLE_VARIABLE, EVERYWHERE, len(variables))
    return command(tc.CMD_SUBSCRIBE_JUNCTION_CONTEXT, period + _text(junction) + head + bytes(variables))


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

    def subscriptions(self) -> int:
        """Read how many subscriptions the answer to a step brings."""
        return self._unpack(_INT)[0]

    def vehicles(self, lanes: LaneIndex) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Read what a subscription to all vehicles brings; see ``decode_vehicles``."""
        begin = self._position
        extended, length, identifier = self._unpack(_CONTEXT_HEAD)  # the length is always given as an extended one
        if extended or identifier != tc.RESPONSE_SUBSCRIBE_JUNCTION_CONTEXT:
            raise ProtocolError(f"SUMO sent response 0x{identifier:02x} where the vehicles were expected")
        self._string()  # the junction
        _, variables = self._unpack(_TWO_BYTES)
        (count,) = self._unpack(_INT)
        if variables != len(VEHICLE_VARIABLES) or not 0 <= count <= len(self._content) // len(_BLOCK):
            raise ProtocolError(f"SUMO's reply announces {count} vehicles with {variables} variables each")
        vehicles, numbers, self._position = decode_vehicles(self._content, self._position, count, lanes)
        if self._position != begin + length:
            raise ProtocolError(f"SUMO's reply holds more than the {count} vehicles that it announces")
        return vehicles, numbers


_BYTE = struct.Struct("!B")
_TWO_BYTES = struct.Struct("!BB")
_DOUBLE = struct.Struct("!d")
_CONTEXT_HEAD = struct.Struct("!BiB")


class LaneIndex:
    """Numbers of lanes by their ids as TraCI sends them, in a hash table that compiled loops can read."""

    def __init__(self, lane_ids: Sequence[str]) -> None:
        names = [name.encode() for name in lane_ids]
        self.text = np.frombuffer(b"".join(names), np.uint8)
        self.ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        size = 1 << max(1, 2 * len(names) - 1).bit_length()  # at most half full
        self.table = np.full(size, -1, np.int32)
        _fill(self.table, self.text, self.ends)


def decode_vehicles(
    content: bytes | bytearray, start: int, count: int, lanes: LaneIndex
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Decode ``count`` vehicle records from byte ``start`` on.

    Returns a table float32 [count, COLUMNS + 1] (x m, y m, speed m/s, acceleration m/s², angle °, lane position m,
    waiting time s, and a column of zeros), the numbers of their lanes int32 [count], -1 where there is none, both in
    the order of the reply (sorted by id), and where the records end. Raises ``ProtocolError`` on truncated bytes and
    on any variable that SUMO could not give.
    """
    raw = np.frombuffer(content, np.uint8)
    vehicles, numbers, row, position = _decode(raw, start, count, lanes.table, lanes.text, lanes.ends)
    if row == count:
        return vehicles, numbers, position
    if position < 0:
        raise ProtocolError(f"SUMO's reply ends in the middle of vehicle record {row} of {count}, or has lost its way")
    name = bytes(raw[position + 4 : position + 4 + _INT.unpack_from(content, position)[0]])
    raise ProtocolError(f"SUMO could not give every variable of vehicle {name.decode(errors='replace')!r}")


@compiled
def _length(raw, at):  # type: ignore[no-untyped-def]
    """The big-endian length of a text at byte ``at``, -1 where it or the text itself is not all there."""
    if at + 4 > len(raw):
        return -1
    length = (np.int64(raw[at]) << 24) | (np.int64(raw[at + 1]) << 16) | (np.int64(raw[at + 2]) << 8) | raw[at + 3]
    return length if at + 4 + length <= len(raw) else -1  # negative lengths are too large ones here


@compiled
def _decode(raw, start, count, table, text, ends):  # type: ignore[no-untyped-def]
    """The records; where one is bad, its number, and its byte or -1 when it is not all there."""
    vehicles = np.zeros((count, COLUMNS + 1), np.float32)
    numbers = np.empty(count, np.int32)
    # A double is eight bytes, the most significant first: they are turned around into these, which are also a double.
    octets = np.empty(8, np.uint8)
    double = octets.view(np.float64)
    position = start
    for row in range(count):
        record = position
        length = _length(raw, position)
        block = position + 4 + length
        position = block + len(_BLOCK)
        lane_length = _length(raw, position) if length >= 0 else -1
        if lane_length < 0:
            return vehicles, numbers, row, -1
        for at in _MARKERS:
            if raw[block + at] != _BLOCK[at]:
                return vehicles, numbers, row, record
        for column in range(COLUMNS):
            for octet in range(8):
                octets[octet] = raw[block + _NUMBERS[column] + 7 - octet]
            vehicles[row, column] = double[0]
        numbers[row] = _find(table, text, ends, raw, position + 4, lane_length)
        position += 4 + lane_length
    return vehicles, numbers, count, position


@compiled
def _hash(text, start, length):  # type: ignore[no-untyped-def]
    """FNV-1a of 32 bits (http://www.isthe.com/chongo/tech/comp/fnv)."""
    value = np.uint32(2166136261)
    for at in range(start, start + length):
        value = np.uint32((value ^ text[at]) * np.uint32(16777619))
    return np.int64(value)


@compiled
def _fill(table, text, ends):  # type: ignore[no-untyped-def]
    """Enter the lanes, each at its hash or at the next free place."""
    start = 0
    for lane in range(len(ends)):
        place = _hash(text, start, ends[lane] - start) & (len(table) - 1)
        while table[place] >= 0:
            place = (place + 1) & (len(table) - 1)
        table[place] = lane
        start = ends[lane]


@compiled
def _find(table, text, ends, raw, start, length):  # type: ignore[no-untyped-def]
    """The number of the lane with this id, -1 where there is none."""
    place = _hash(raw, start, length) & (len(table) - 1)
    while table[place] >= 0:
        lane = table[place]
        first = ends[lane - 1] if lane else 0
        if ends[lane] - first == length:
            same = True
            for at in range(length):
                if text[first + at] != raw[start + at]:
                    same = False
                    break
            if same:
                return lane
        place = (place + 1) & (len(table) - 1)
    return np.int32(-1)
