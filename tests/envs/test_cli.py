"""`python -m envs`: what it says about scenarios that work, and about those that do not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envs import sumo
from envs.__main__ import main
from envs.check import check
from envs.scenarios import Scenario, find


def reported(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["check", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def complained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr, after exit code 2."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def network(folder: Path, *options: str) -> None:
    """Make `net.net.xml` in the folder with netgenerate."""
    command = [str(sumo.binary("netgenerate")), "--grid", "--grid.number=2", *options, "--output-file=net.net.xml"]
    subprocess.run(command, cwd=folder, env=sumo.environment(), check=True, capture_output=True, timeout=60)


def configured(folder: Path, routes: str, options: str = '<end value="300"/>') -> str:
    """A configuration on `net.net.xml`; its path."""
    (folder / "test.rou.xml").write_text(f"<routes>{routes}</routes>")
    config = folder / "test.sumocfg"
    files = '<net-file value="net.net.xml"/><route-files value="test.rou.xml"/>'
    config.write_text(f"<configuration>{files}{options}</configuration>")
    return str(config)


def test_list_names_every_scenario_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {"grid4x4", "single", "arterial", "resco:cologne1"} <= {entry["name"] for entry in entries}
    assert all(entry["description"] and entry["present"] for entry in entries)
    assert main(["list"]) == 0
    table = capsys.readouterr().out
    assert all(entry["name"] in table for entry in entries)


def test_list_says_what_to_install_for_those_that_are_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envs.scenarios._resco_folder", lambda: None)
    assert main(["list"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Not installed: resco:grid4x4, " in said
    assert "To have them: pip install sumo-rl" in said


def test_check_reports_signals_phases_lanes_demand_and_window(capsys: pytest.CaptureFixture[str]) -> None:
    report = reported(capsys, "grid4x4")
    assert (report["begin"], report["end"], report["simulated_seconds"]) == (0, 3600, 3600)
    assert report["usable"] is True
    assert report["notes"] == []
    assert report["green_phases"] == 64
    assert report["lanes"] == 80 * 2  # 24 streets between crossings and 16 out of the grid, both ways, two lanes each
    signals = {signal["id"]: signal for signal in report["signals"]}
    assert len(signals) == 16
    assert all(signal["controllable"] and len(signal["lanes"]) == 8 for signal in signals.values())
    assert sorted(signals["A0"]["neighbours"]) == ["A1", "B0"]
    assert len(signals["B1"]["neighbours"]) == 4
    assert report["departed"] + report["waiting_to_depart"] == report["vehicles_per_hour"]  # the window is an hour
    assert 1400 < report["vehicles_per_hour"] < 1800
    assert report["wall_seconds_per_simulated_hour"] > 0


def test_check_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "resco:cologne1"]) == 0
    captured = capsys.readouterr()
    assert "25200 s to 28800 s (60 min)" in captured.out
    assert "1 controllable, 0 not" in captured.out
    assert "vehicles per hour" in captured.out
    assert captured.err == ""


def test_a_signal_that_cannot_be_controlled_is_named_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a terminal wide enough for the reason
    network(tmp_path, "--default-junction-type=traffic_light", "--grid.attach-length=100")
    before = check(find(configured(tmp_path, ""))).network
    assert [signal.id for signal in before.signals] == ["A0", "A1", "B0", "B1"]
    links = len(before.signals[0].greens[0])
    phases = "".join(f'<phase duration="30" state="{light * links}"/>' for light in "Gyr")
    program = f'<tlLogic id="A0" type="static" programID="own" offset="0">{phases}</tlLogic>'
    (tmp_path / "tls.add.xml").write_text(f"<additional>{program}</additional>")
    config = configured(tmp_path, "", '<end value="300"/><additional-files value="tls.add.xml"/>')
    found = reported(capsys, config)
    signals = {signal["id"]: signal for signal in found["signals"]}
    assert [name for name, signal in signals.items() if signal["controllable"]] == ["A1", "B0", "B1"]
    assert signals["A0"]["why_not"] == "its program 'own' has one green phase only"
    fixed = len(signals) - 3  # netgenerate gives the ends of the roads out a signal as well
    assert f"{fixed} of its signals cannot be controlled and run their own programs" in found["notes"]
    assert "no vehicle departs from 0 s to 300 s" in found["notes"]
    assert main(["check", config]) == 0
    assert "no: its program 'own' has one green phase only" in capsys.readouterr().out


def test_a_network_without_signals_is_described_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(tmp_path)
    trip = '<trip id="a" depart="0" from="A0A1" to="A1B1"/>'
    config = configured(tmp_path, trip, f'<tripinfo-output value="{tmp_path}/trips.xml"/>')
    assert main(["check", config, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: scenario {config}: its network has no traffic lights; choose one that has\n"
    report = json.loads(captured.out)
    assert (report["usable"], report["signals"]) == (False, [])
    assert (report["departed"], report["arrived"]) == (1, 1)
    assert "its configuration names no end: episodes end at 600 s" in report["notes"]
    assert any(
        note.endswith("the results that its configuration asks for: tripinfo-output") for note in report["notes"]
    )


def test_a_demand_beyond_the_capacity_is_noted(tmp_path: Path) -> None:
    network(tmp_path, "--default-junction-type=traffic_light")
    flow = '<flow id="f" begin="0" end="300" period="0.2" from="A0A1" to="A1B1"/>'
    report = check(find(configured(tmp_path, flow)))
    assert report.demand.waiting_to_depart > 500
    assert any(note.endswith("find no room to depart: the network is over its capacity") for note in report.notes)


def test_the_trial_is_bounded_and_says_so() -> None:
    report = check(find("single"), limit=0)
    assert report.demand.simulated == 60
    assert "only the first 60 s of 1800 s were simulated, the rest would take too long" in report.notes


def test_sumos_last_words_are_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(tmp_path)
    config = configured(tmp_path, '<trip id="a" depart="0" from="nope" to="A1B1"/>')
    error = complained(capsys, "check", config)
    assert config in error
    assert "The edge 'nope' within the route for trip 'a' is not known." in error


def test_a_wrong_name_is_one_line(capsys: pytest.CaptureFixture[str], lone_vehicle: Scenario) -> None:
    assert "did you mean grid4x4" in complained(capsys, "check", "grid4x5")
    assert "there is no such file" in complained(capsys, "check", f"{lone_vehicle.config}.gone")


def test_as_a_program() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "envs", "check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert "SCENARIO" in run.stderr


def test_a_demand_that_the_configuration_varies_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(find("single").config.with_name("single.net.xml"), tmp_path / "net.net.xml")
    trip = '<trip id="{}" depart="{}" from="left0A0" to="A0right0"/>'
    trips = "".join(trip.format(number, 10 * number) for number in range(20))
    options = '<end value="300"/><scale value="0.5"/><random-depart-offset value="7"/>'
    report = reported(capsys, configured(tmp_path, trips, options))
    assert report["departed"] == 10
    notes = "\n".join(report["notes"])
    assert "its configuration scales its demand by 0.5, which --demand-scale multiplies" in notes
    assert "delays departures by up to 7 s" in notes


def test_what_is_piped_comes_in_whole_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / ("a_long_name" * 12)
    shutil.copytree(find("single").config.parent, folder)
    path = str(folder / "single.sumocfg")
    assert main(["check", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["scenario", path]
    assert [line for line in lines if line != line.rstrip()] == []
