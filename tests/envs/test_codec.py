"""TraCI's bytes: what well-formed replies decode to, and that broken ones are always noticed."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import traci.constants as tc
from hypothesis import given
from hypothesis import strategies as st

from envs import codec
from envs.codec import COLUMNS, VEHICLE_VARIABLES, LaneIndex, ProtocolError, Reply, decode_vehicles

TEXTS = st.binary(min_size=1, max_size=300)
DOUBLES = st.floats(allow_nan=False, allow_subnormal=False, width=32)  # columns are float32
VEHICLES = st.lists(st.tuples(TEXTS, st.lists(DOUBLES, min_size=COLUMNS, max_size=COLUMNS), TEXTS), max_size=5)
Vehicle = tuple[bytes, list[float], bytes]

DOMAIN = tc.CMD_SUBSCRIBE_JUNCTION_CONTEXT
LANES = LaneIndex(["lane_0", "lane_1", "é_2"])


def read(content: bytes, lanes: LaneIndex = LANES) -> tuple[np.ndarray, np.ndarray]:
    """The answer to a bulk read."""
    reply = Reply(content)
    reply.status(DOMAIN)
    return reply.vehicles(lanes)


def text(content: bytes) -> bytes:
    return struct.pack("!i", len(content)) + content


def status(identifier: int, result: int = tc.RTYPE_OK, words: bytes = b"") -> bytes:
    body = struct.pack("!BB", identifier, result) + text(words)
    if len(body) < 255:
        return struct.pack("!B", len(body) + 1) + body
    return struct.pack("!Bi", 0, len(body) + 5) + body


def record(name: bytes, values: list[float], lane: bytes) -> bytes:
    """One vehicle as SUMO writes it, variable by variable."""
    x, y, *others = values
    variables = [struct.pack("!BBBdd", tc.VAR_POSITION, tc.RTYPE_OK, tc.POSITION_2D, x, y)]
    for variable, value in zip(VEHICLE_VARIABLES[1:-1], others, strict=True):
        variables.append(struct.pack("!BBBd", variable, tc.RTYPE_OK, tc.TYPE_DOUBLE, value))
    variables.append(struct.pack("!BBB", tc.VAR_LANE_ID, tc.RTYPE_OK, tc.TYPE_STRING) + text(lane))
    return text(name) + b"".join(variables)


def bulk(records: list[bytes], count: int | None = None) -> bytes:
    """The answer to a bulk read; `count` is what it announces, if not the truth."""
    head = struct.pack(
        "!BBi", tc.CMD_GET_VEHICLE_VARIABLE, len(VEHICLE_VARIABLES), len(records) if count is None else count
    )
    body = text(b"junction") + head + b"".join(records)
    response = struct.pack("!BiB", 0, len(body) + 6, tc.RESPONSE_SUBSCRIBE_JUNCTION_CONTEXT) + body
    return status(DOMAIN) + response


def answer(kind: int, value: bytes) -> bytes:
    """The answer to a `get`."""
    body = struct.pack("!BB", 0xBB, tc.VAR_TIME) + text(b"") + struct.pack("!B", kind) + value
    return status(tc.CMD_GET_SIM_VARIABLE) + struct.pack("!B", len(body) + 1) + body


@given(VEHICLES, st.data())
def test_vehicles_come_back_as_they_were(vehicles: list[Vehicle], data: st.DataObject) -> None:
    known = data.draw(st.lists(st.sampled_from([lane for _, _, lane in vehicles]), unique=True)) if vehicles else []
    known = [lane for lane in known if is_text(lane)]
    table, lanes = read(bulk([record(*vehicle) for vehicle in vehicles]), LaneIndex([lane.decode() for lane in known]))
    assert table.shape == (len(vehicles), COLUMNS + 1)
    np.testing.assert_array_equal(table[:, :-1], np.array([v for _, v, _ in vehicles]).reshape(-1, COLUMNS))
    assert not table[:, -1].any()
    assert lanes.tolist() == [known.index(lane) if lane in known else -1 for _, _, lane in vehicles]


def is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_doubles_are_rounded_as_numpy_does() -> None:
    values = [1 / 3, -1e-300, 1e300, float("inf"), float("nan"), -0.0, 16777217.0]
    with np.errstate(over="ignore"):
        expected = np.array([values]).astype(np.float32)
    np.testing.assert_array_equal(read(bulk([record(b"a", values, b"")]))[0][:, :-1], expected)


@given(st.lists(st.text(min_size=1, max_size=40), unique=True, max_size=200))
def test_every_lane_is_found_and_nothing_else(names: list[str]) -> None:
    index = LaneIndex(names)
    wanted = [name.encode() for name in names] + [b"nowhere", b"", *(name.encode()[:-1] for name in names)]
    _, lanes = read(bulk([record(b"v", [0.0] * COLUMNS, lane) for lane in wanted]), index)
    number = {name.encode(): at for at, name in enumerate(names)}
    assert lanes.tolist() == [number.get(lane, -1) for lane in wanted]


@given(VEHICLES, st.data())
def test_a_reply_that_ends_early_is_noticed_wherever_it_ends(vehicles: list[Vehicle], data: st.DataObject) -> None:
    content = bulk([record(*vehicle) for vehicle in vehicles])
    end = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(ProtocolError):
        read(content[:end])


def test_a_short_reply_is_noticed_at_every_byte() -> None:
    content = bulk([record(b"a", [1.0] * COLUMNS, b"lane_0"), record(b"bc", [2.0] * COLUMNS, b"lane_1")])
    for end in range(len(content)):
        with pytest.raises(ProtocolError):
            read(content[:end])
    records = record(b"a", [1.0] * COLUMNS, b"lane_0")
    for end in range(len(records)):
        with pytest.raises(ProtocolError):
            decode_vehicles(records[:end], 0, 1, LANES)


@given(VEHICLES.filter(len), st.data())
def test_damaged_bytes_raise_nothing_else(vehicles: list[Vehicle], data: st.DataObject) -> None:
    content = bytearray(bulk([record(*vehicle) for vehicle in vehicles]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        table, lanes = read(bytes(content))
    except ProtocolError:
        return
    assert len(table) == len(lanes)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("length", [-1, -4, -60, -85, -90, -(2**31), 2**31 - 1])
def test_a_text_of_impossible_length_is_noticed(which: int, length: int) -> None:
    good, name, lane = [3.0] * COLUMNS, b"name", b"lane_0"
    content = record(name, good, lane)
    at = 0 if which == 0 else len(content) - len(lane) - 4
    content = content[:at] + struct.pack("!i", length) + content[at + 4 :]
    for records in ([content], [content, record(name, good, lane)], [record(name, good, lane), content]):
        with pytest.raises(ProtocolError):
            read(bulk(records))
        with pytest.raises(ProtocolError):  # also where nothing follows that would be misread
            decode_vehicles(b"".join(records), 0, len(records), LANES)


@pytest.mark.parametrize("count", [-1, 1, 3, 2**31 - 1])
def test_another_number_of_vehicles_than_announced_is_noticed(count: int) -> None:
    records = [record(name, [1.0] * COLUMNS, b"lane_0") for name in (b"a", b"b")]
    with pytest.raises(ProtocolError):
        read(bulk(records, count))


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_variable_that_sumo_could_not_give_is_noticed_with_the_vehicle(row: int) -> None:
    vehicles = [record(name, [1.0] * COLUMNS, b"lane_0") for name in (b"a", b"b", b"c")]
    speed = struct.pack("!BBB", tc.VAR_SPEED, tc.RTYPE_OK, tc.TYPE_DOUBLE)
    refused = struct.pack("!BBB", tc.VAR_SPEED, tc.RTYPE_ERR, tc.TYPE_DOUBLE)
    vehicles[row] = vehicles[row].replace(speed, refused)
    with pytest.raises(ProtocolError, match=f"could not give every variable of vehicle '{'abc'[row]}'"):
        read(bulk(vehicles))


@given(st.text(max_size=300))
def test_a_refusal_quotes_sumo(words: str) -> None:
    reply = Reply(status(tc.CMD_SIMSTEP, tc.RTYPE_ERR, words.encode()))
    with pytest.raises(ProtocolError) as caught:
        reply.status(tc.CMD_SIMSTEP)
    assert (words or "no reason given") in str(caught.value)


def test_an_answer_to_another_question_is_noticed() -> None:
    with pytest.raises(ProtocolError, match="answered command 0x02 where 0xc2 had been asked"):
        Reply(status(tc.CMD_SIMSTEP)).status(tc.CMD_SET_TL_VARIABLE)


@pytest.mark.parametrize(
    ("kind", "content", "value"),
    [
        (tc.TYPE_INTEGER, struct.pack("!i", -7), -7),
        (tc.TYPE_DOUBLE, struct.pack("!d", 2.5), 2.5),
        (tc.TYPE_STRING, text("é".encode()), "é"),
    ],
)
def test_a_value_is_read_whatever_its_type_and_cut_short_is_noticed(kind: int, content: bytes, value: object) -> None:
    whole = answer(kind, content)
    assert Reply(whole).value(tc.CMD_GET_SIM_VARIABLE) == value
    for end in range(len(whole)):
        with pytest.raises(ProtocolError):
            Reply(whole[:end]).value(tc.CMD_GET_SIM_VARIABLE)


def test_a_value_of_unknown_type_is_noticed() -> None:
    with pytest.raises(ProtocolError, match="type 0x0e"):
        Reply(answer(tc.TYPE_STRINGLIST, b"")).value(tc.CMD_GET_SIM_VARIABLE)


@given(st.binary(max_size=600))
def test_a_command_states_its_own_length(body: bytes) -> None:
    content = codec.command(0xC2, body)
    length = content[0] or struct.unpack_from("!i", content, 1)[0]
    assert length == len(content)
    assert content.endswith(bytes([0xC2]) + body)
    assert struct.unpack_from("!i", codec.message(content, content))[0] == 4 + 2 * len(content)
