"""Finding scenarios by name or path, and what the user reads when a name or a file is wrong."""

from __future__ import annotations

import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from envs import generate, scenarios, sumo, sumocfg
from envs.errors import ScenarioError, SumoMissingError

RESCO_WINDOWS = {
    "arterial4x4": (0, 3600),
    "cologne1": (25200, 28800),
    "cologne3": (25200, 28800),
    "cologne8": (25200, 28800),
    "grid4x4": (0, 3600),
    "ingolstadt1": (57600, 61200),
    "ingolstadt7": (57600, 61200),
    "ingolstadt21": (57600, 61200),
}


def write(folder: Path, options: str, **files: str) -> Path:
    """A configuration `test.sumocfg` with these options, beside an empty network and the given .rou.xml files."""
    (folder / "net.xml").write_text("<net/>")
    for name, text in files.items():
        (folder / f"{name}.rou.xml").write_text(f"<routes>{text}</routes>")
    config = folder / "test.sumocfg"
    config.write_text(f"<configuration>{options}</configuration>")
    return config


def window(folder: Path, options: str, **files: str) -> tuple[float, float]:
    scenario = scenarios.find(str(write(folder, f'<net-file value="net.xml"/>{options}', **files)))
    return scenario.begin, scenario.end


# Names


def test_generated_scenarios_are_found(tmp_path: Path) -> None:
    found = {name: scenarios.find(name, tmp_path) for name in ("grid4x4", "single", "arterial")}
    assert {name: (s.name, s.begin, s.end) for name, s in found.items()} == {
        "grid4x4": ("grid4x4", 0, 3600),
        "single": ("single", 0, 1800),
        "arterial": ("arterial", 0, 3600),
    }
    assert all(scenario.config.is_file() for scenario in found.values())


@pytest.mark.parametrize("name", RESCO_WINDOWS)
def test_resco_scenarios_are_found(name: str) -> None:
    scenario = scenarios.find(f"resco:{name}")
    assert scenario.config.name == f"{name}.sumocfg"
    assert (scenario.begin, scenario.end) == RESCO_WINDOWS[name]


def test_resco_is_found_without_importing_sumo_rl() -> None:
    code = "import sys; from envs import scenarios; scenarios.available(); sys.exit('sumo_rl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_without_sumo_rl_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sumo_rl" else find_spec(name))
    with pytest.raises(
        ScenarioError, match=r"^scenario 'resco:cologne1' needs .*: pip install sumo-rl \(.*`bench` extra\)$"
    ):
        scenarios.find("resco:cologne1")
    assert {entry.name: entry.present for entry in scenarios.available()}["resco:cologne1"] is False


def test_all_that_is_available_can_be_found(tmp_path: Path) -> None:
    entries = scenarios.available()
    assert len(entries) == 11
    assert all(entry.description for entry in entries)
    for entry in entries:
        if entry.present:
            assert scenarios.find(entry.name, tmp_path).name == entry.name


def test_a_path_is_a_name_and_survives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, '<net-file value="net.xml"/><end value="10"/>')
    monkeypatch.chdir(tmp_path)
    scenario = scenarios.find("test.sumocfg")
    assert scenario == scenarios.Scenario("test.sumocfg", tmp_path / "test.sumocfg", 0, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "grid4x5",
            r"^unknown scenario 'grid4x5' \(did you mean grid4x4.*\?\): must be a path .* one of grid4x4, single",
        ),
        ("resco:colonge1", r"^unknown scenario 'resco:colonge1' \(did you mean resco:cologne1"),
        ("resco:../cologne1", r"^unknown scenario 'resco:\.\./cologne1'"),
        ("zzz", r"^unknown scenario 'zzz': must be a path"),
        ("", r"^unknown scenario '': must be a path"),
        ("nowhere/my.sumocfg", r"^scenario 'nowhere/my\.sumocfg': there is no such file \(looked for /"),
        ("my.sumocfg", r"^scenario 'my\.sumocfg': there is no such file"),
        ("/tmp", r"^scenario '/tmp' is a folder, must be a SUMO configuration"),
    ],
)
def test_an_unknown_name_says_what_there_is(name: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        scenarios.find(name)
    assert "\n" not in str(caught.value)


# Files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('<net-file value="net.xml"', r"test\.sumocfg: not a complete XML file: "),
        ('<route-files value="a"/>', r"test\.sumocfg: names 0 net-files, must be one: is it a SUMO configuration"),
        ('<net-file value="net.xml,net.xml"/>', r"test\.sumocfg: names 2 net-files, must be one"),
        ('<net-file value="other.xml"/>', r"test\.sumocfg: net-file 'other\.xml' does not exist in /"),
        ('<net-file value="net.xml"/><r v="a.xml"/>', r"route-files 'a\.xml' does not exist"),
        (
            '<net-file value="net.xml"/><r v="net.xml net.xml"/>',
            r"does not exist in .* \(files are separated by commas",
        ),
        ('<net-file value="net.xml"/><additional value="a.xml"/>', r"additional-files 'a\.xml' does not exist"),
        (
            '<net-file value="net.xml"/><end value="soon"/>',
            r"end 'soon' is not a time: write seconds, H:M:S or D:H:M:S",
        ),
        ('<net-file value="net.xml"/><b v="1:30"/>', r"begin '1:30' is not a time"),
        ('<net-file value="net.xml"/><end value="nan"/>', r"end 'nan' is not a time"),
        ('<net-file value="net.xml"/><b v="9"/><e v="9"/>', r"begin is 9 s and end 9 s, must be 0 <= begin < end"),
        ('<net-file value="net.xml"/><b v="-9"/>', r"begin is -9 s"),
    ],
)
def test_a_wrong_configuration_is_named_in_one_line(options: str, message: str, tmp_path: Path) -> None:
    config = write(tmp_path, options)
    with pytest.raises(ScenarioError, match=message) as caught:
        scenarios.find(str(config))
    assert str(caught.value).startswith(str(config))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_gzip_is_named(tmp_path: Path) -> None:
    config = tmp_path / "test.sumocfg.gz"
    config.write_text("<configuration/>")
    with pytest.raises(ScenarioError, match=r"test\.sumocfg\.gz: not a complete XML file"):
        scenarios.find(str(config))


@pytest.mark.parametrize(
    "options",
    [
        '<input><net-file value="net.xml"/><route-files value="a.rou.xml, b.rou.xml"/></input><end value="9"/>',
        '<net value="net.xml"/><routes value="a.rou.xml,b.rou.xml"/><end value="9"/>',
        '<n v="net.xml"/><r v="a.rou.xml,b.rou.xml"/><e v="9"/>',
        "<net-file>net.xml</net-file><route-files>a.rou.xml,b.rou.xml</route-files><end> 9 </end>",
    ],
)
def test_options_are_read_under_all_the_names_that_sumo_knows(options: str, tmp_path: Path) -> None:
    content = sumocfg.read(write(tmp_path, options, a="", b=""))
    assert content.network == tmp_path / "net.xml"
    assert content.routes == (tmp_path / "a.rou.xml", tmp_path / "b.rou.xml")
    assert content.end == 9


def test_a_name_with_a_variable_of_sumos_is_left_to_sumo(tmp_path: Path) -> None:
    assert window(tmp_path, '<additional-files value="${SUMO_HOME}/data/x.xml"/><end value="9"/>') == (0, 9)


# Time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("25200", 25200),
        ("0.5", 0.5),
        ("1e2", 100),
        ("7:00:00", 25200),
        ("0:0:1.5", 1.5),
        ("1:00:01:00.5", 86460.5),
    ],
)
def test_times_are_seconds_or_clock_times(text: str, seconds: float) -> None:
    assert sumocfg.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "1:30", "1:2:3:4:5", "a:b:c", "7 o'clock", "inf"])
def test_anything_else_is_not_a_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|could not convert|invalid literal"):
        sumocfg.seconds(text)


def test_begin_and_end_are_the_configurations(tmp_path: Path) -> None:
    assert window(tmp_path, '<begin value="7:00:00"/><end value="8:00:00"/>') == (25200, 28800)


@pytest.mark.parametrize("end", ["", '<end value="-1"/>'])
def test_without_an_end_it_is_ten_minutes_after_the_last_departure(end: str, tmp_path: Path) -> None:
    routes = (
        '<vehicle id="a" depart="100"/><person id="p" depart="triggered"/>',
        '<flow id="f" begin="0" end="0:20:0"/>',
    )
    options = f'<routes value="a.rou.xml,b.rou.xml"/><begin value="50"/>{end}'
    assert window(tmp_path, options, a=routes[0], b=routes[1]) == (50, 1200 + 600)


def test_a_flow_of_so_many_vehicles_ends_with_the_last_of_them(tmp_path: Path) -> None:
    flow = '<flow id="f" begin="100" number="10" period="30"/>'
    assert window(tmp_path, '<routes value="a.rou.xml"/>', a=flow) == (0, 100 + 10 * 30 + 600)


@pytest.mark.parametrize("routes", ["", '<flow id="f" begin="0" period="30"/>', '<trip id="a" depart="triggered"/>'])
def test_without_any_end_an_episode_is_an_hour(routes: str, tmp_path: Path) -> None:
    assert window(tmp_path, '<routes value="a.rou.xml"/><begin value="50"/>', a=routes) == (50, 50 + 3600)


def test_compressed_routes_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.rou.xml.gz").write_bytes(gzip.compress(b'<routes><trip id="a" depart="40"/></routes>'))
    assert window(tmp_path, '<routes value="a.rou.xml.gz"/>') == (0, 640)


# SUMO itself


def test_the_programs_are_the_real_ones() -> None:
    program = sumo.binary("sumo")
    assert not program.read_bytes().startswith(b"#!")  # pip's launcher is a script
    version = subprocess.run(
        [program, "--version"], env=sumo.environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert "Eclipse SUMO" in version.stdout
    assert sumo.environment()["SUMO_HOME"] == str(sumo.home())


def test_a_missing_program_or_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(
        SumoMissingError, match=r"^SUMO's program 'sumoo' is not at .*: pip install 'eclipse-sumo==1\.28\.\*'$"
    ):
        sumo.binary("sumoo")
    sumo.home.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SumoMissingError, match=r"^SUMO is not installed: pip install 'eclipse-sumo==1\.28\.\*'$"):
        generate.build("single", tmp_path)
    assert list(tmp_path.iterdir()) == []


# Demand


def test_a_configuration_that_varies_its_demand_is_read(tmp_path: Path) -> None:
    options = '<net-file value="net.xml"/><end value="10"/><scale value="0.5"/><random-depart-offset value="0:01:00"/>'
    scenario = scenarios.find(str(write(tmp_path, options)))
    assert (scenario.scale, scenario.departure_jitter) == (0.5, 60.0)


def test_a_scale_that_is_no_number_is_named(tmp_path: Path) -> None:
    options = '<net-file value="net.xml"/><end value="10"/><scale value="half"/>'
    with pytest.raises(ScenarioError, match="scale 'half' is not a number"):
        scenarios.find(str(write(tmp_path, options)))
