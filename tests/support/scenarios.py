"""Scenarios that differ from those that come with the project."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from envs.scenarios import Scenario, find


def with_plans(folder: Path) -> Scenario:
    """``single`` with a second program, "night", to which a plan by the time of day (WAUT) switches at 110 s."""
    original = find("single")
    source = original.config.parent
    (program,) = ET.parse(source / "single.net.xml").iter("tlLogic")
    signal = program.attrib["id"]
    program.attrib["programID"] = "night"
    additional = ET.Element("additional")
    additional.append(program)
    plans = ET.SubElement(additional, "WAUT", refTime="0", id="plans", startProg="0")
    ET.SubElement(plans, "wautSwitch", time="110", to="night")
    ET.SubElement(additional, "wautJunction", wautID="plans", junctionID=signal)
    ET.ElementTree(additional).write(folder / "plans.add.xml")
    content = original.config.read_text()
    for name in ("single.net.xml", "single.rou.xml"):
        content = content.replace(f'"{name}"', f'"{source / name}"')
    config = folder / "plans.sumocfg"
    config.write_text(content.replace("<net-file", '<additional-files value="plans.add.xml"/><net-file', 1))
    return find(str(config))
