"""What Platoon reads from a `.sumocfg`: its files, its time window, and how it varies its demand.

Everything else is left for SUMO to judge.
"""

from __future__ import annotations

import gzip
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from envs.errors import ScenarioError

COOL_DOWN = 600.0  # s after the last departure, when the file names no end
OPEN_END = 3600.0  # s after the begin, when the file names no end and the demand has none either

# An option's own name first, then the synonyms that SUMO knows for it.
SYNONYMS = {
    "net-file": ("net-file", "net", "n"),
    "route-files": ("route-files", "routes", "r"),
    "additional-files": ("additional-files", "additional", "a"),
    "begin": ("begin", "b"),
    "end": ("end", "e"),
    "scale": ("scale",),
    "random-depart-offset": ("random-depart-offset",),
}
TRAVELLERS = {"vehicle", "trip", "person", "container"}
FLOWS = {"flow", "personFlow", "containerFlow"}


@dataclass(frozen=True)
class SumoConfig:
    """A `.sumocfg`, the files it names (all of them exist) and its time window in seconds.

    `names_end` is false where the end is our guess; `outputs` are the results that it makes SUMO write. `scale` is its
    own factor on the demand, and `departure_jitter` by how many seconds it delays departures at most, at random.
    """

    path: Path
    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...]
    begin: float
    end: float
    names_end: bool
    outputs: tuple[str, ...]
    scale: float
    departure_jitter: float


def read(path: Path) -> SumoConfig:
    """Read a `.sumocfg`; raises ScenarioError for a file that is missing, not XML, or names files that are missing.

    Without a begin it is 0, as in SUMO. Without an end SUMO would run until the last vehicle has left; an episode needs
    an end beforehand, so it is the last departure in the route files + 600 s, or begin + 3600 s where no file says.
    """
    options = _options(path)
    network = _files(path, options, "net-file")
    if len(network) != 1:
        raise ScenarioError(
            f"{path}: names {len(network)} net-files, must be one: is it a SUMO configuration (.sumocfg)?"
        )
    routes = _files(path, options, "route-files")
    additional = _files(path, options, "additional-files")
    begin = _time(path, options, "begin", 0.0)
    end = _time(path, options, "end", -1.0)
    names_end = end != -1.0  # SUMO's own word for "no end"
    if not names_end:
        last = last_departure(routes + additional)
        end = begin + OPEN_END if last is None else max(last, begin) + COOL_DOWN
    if not 0 <= begin < end:
        raise ScenarioError(f"{path}: begin is {begin:g} s and end {end:g} s, must be 0 <= begin < end")
    outputs = tuple(sorted(name for name in options if name.endswith(("-output", "-dump"))))
    scale = _factor(path, options, "scale")
    jitter = _time(path, options, "random-depart-offset", 0.0)
    return SumoConfig(path, network[0], routes, additional, begin, end, names_end, outputs, scale, jitter)


def seconds(text: str) -> float:
    """Return the seconds of a SUMO time: seconds, H:M:S or D:H:M:S; raises ValueError for anything else."""
    *larger, rest = text.split(":")
    if len(larger) not in (0, 2, 3):
        raise ValueError(f"{text!r} is not a time: write seconds, H:M:S or D:H:M:S")
    total = float(rest)
    for number, unit in zip(reversed(larger), (60, 3600, 86400), strict=False):
        total += int(number) * unit
    if not math.isfinite(total):
        raise ValueError(f"{text!r} is not a time: it must be finite")
    return total


def last_departure(files: tuple[Path, ...]) -> float | None:
    """Return the time (s) of the last departure that the route files plan; None where no file says.

    Departures that depend on the simulation ("triggered") do not count; a flow counts with its end, and a flow without
    one makes the answer None.
    """
    last: float | None = None
    for path in files:
        for element in _elements(path):
            if element.tag in TRAVELLERS:
                time = _departure(element.get("depart", ""))
            elif element.tag in FLOWS:
                time = _flow_end(element)
                if time is None:
                    return None
            else:
                continue
            if time is not None:
                last = time if last is None else max(last, time)
    return last


def _departure(text: str) -> float | None:
    try:
        return seconds(text)
    except ValueError:  # "triggered" and its kin; a real mistake here is for SUMO to report
        return None


def _flow_end(flow: ET.Element) -> float | None:
    """The flow's end, or what its number and its period come to."""
    if "end" in flow.attrib:
        return _departure(flow.attrib["end"])
    number, period = _departure(flow.get("number", "")), _departure(flow.get("period", ""))
    if number is None or period is None:
        return None
    return (_departure(flow.get("begin", "0")) or 0.0) + number * period


def _options(path: Path) -> dict[str, str]:
    """The file's options by every name it uses: <net-file value="…"/>, <n v="…"/> or <net-file>…</net-file>."""
    options = {}
    for element in _elements(path):
        value = element.get("value") or element.get("v") or (element.text or "").strip()
        if value:
            options[element.tag] = value
    return options


def _value(options: dict[str, str], option: str) -> str:
    return next((options[name] for name in SYNONYMS[option] if name in options), "")


def _files(path: Path, options: dict[str, str], option: str) -> tuple[Path, ...]:
    """The files of one option, beside the configuration unless absolute."""
    files = []
    for name in filter(None, (part.strip() for part in _value(options, option).split(","))):
        file = path.parent / name
        if "${" not in name and not file.is_file():  # only SUMO knows what its own ${...} stand for
            hint = " (files are separated by commas, not spaces)" if " " in name else ""
            raise ScenarioError(f"{path}: {option} {name!r} does not exist in {file.parent}{hint}")
        files.append(file)
    return tuple(files)


def _time(path: Path, options: dict[str, str], option: str, default: float) -> float:
    text = _value(options, option)
    if not text:
        return default
    try:
        return seconds(text)
    except ValueError as error:
        raise ScenarioError(f"{path}: {option} {text!r} is not a time: write seconds, H:M:S or D:H:M:S") from error


def _factor(path: Path, options: dict[str, str], option: str) -> float:
    text = _value(options, option)
    try:
        return float(text or 1.0)
    except ValueError as error:
        raise ScenarioError(f"{path}: {option} {text!r} is not a number") from error


def _elements(path: Path) -> Iterator[ET.Element]:
    """Every element of an XML file, emptied once seen, so that a large route file costs little memory."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for _, element in ET.iterparse(file):
                yield element
                element.clear()
    except (ET.ParseError, EOFError, gzip.BadGzipFile) as error:
        raise ScenarioError(f"{path}: not a complete XML file: {error}") from error
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from error
