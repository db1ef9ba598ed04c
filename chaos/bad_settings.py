"""Settings and files that are wrong, on the command lines of ``train_rl.py`` and ``evaluate.py``."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from chaos.harm import PROGRAM, SINGLE, Answer
from envs import sumo
from learner import checkpoints
from tests.support.runs import ROOT

LIMIT = 60.0  # s for one refusal
_EVALUATE = (sys.executable, str(ROOT / "evaluate.py"))


class Mistake(NamedTuple):
    """A command line, and what the one line that it gets must contain; ``@`` is the folder with the wrong files."""

    what: str
    flags: str
    words: str  # separated by |
    evaluate: bool = False  # else train_rl.py


# fmt: off
FLAGS = (
    Mistake("an unknown flag", "--num-env 4", "--num-env|did you mean --num-envs"),
    Mistake("a flag that is like no other", "--qqq 4", "--qqq|--help"),
    Mistake("a word that is no flag", "fast", "fast|no flag"),
    Mistake("no value", "--num-envs", "--num-envs|needs a value"),
    Mistake("an empty value", "--num-envs=", "--num-envs|must be a whole number"),
    Mistake("a word for a number", "--num-envs four", "--num-envs four|must be a whole number"),
    Mistake("a fraction", "--num-envs 2.5", "--num-envs 2.5|must be a whole number"),
    Mistake("none at all", "--num-envs 0", "--num-envs 0|must be at least 1"),
    Mistake("a negative number", "--queue-size -3", "--queue-size -3|must be at least 1"),
    Mistake("not a number", "--learning-rate nan", "--learning-rate nan|finite"),
    Mistake("infinity", "--learning-rate inf", "--learning-rate inf|finite"),
    Mistake("no interval", "--decision-interval 0", "--decision-interval 0|must be at least 0.1"),
    Mistake("negative seconds", "--yellow-time -1", "--yellow-time -1|must be at least 0"),
    Mistake("a time that is none", "--time-limit soon", "--time-limit soon|must be a number, or none"),
    Mistake("a value for a switch", "--poison=yes", "--poison|takes no value"),
    Mistake("an unknown choice", "--task drive", "--task drive|signals"),
    Mistake("an unknown device", "--device gpu", "--device gpu|cuda"),
    Mistake("a negative seed", "--seed -1", "--seed -1|must be at least 0"),
    Mistake("too large a seed", "--seed 99999999999", "--seed 99999999999|must be less than"),
    Mistake("too many simulations", "--num-envs 1000000000", "--num-envs"),
    Mistake("too long a queue", "--queue-size 100000000000000000000", "--queue-size"),
    Mistake("too long a fragment", "--fragment-length 1000000000", "--fragment-length"),
    Mistake("too wide a network", "--hidden 1000000", "--hidden 1000000|at most"),
    Mistake("more collectors than envs", "--num-envs 2 --num-collectors 3", "--num-collectors 3|at most --num-envs 2"),
    Mistake("serial with a loader", "--num-collectors 0 --loader-workers 1", "--loader-workers 1|--num-collectors 0"),
    Mistake("libsumo, too few collectors", "--backend libsumo --num-collectors 1", "libsumo|--num-collectors 2"),
    Mistake("more envs than allowed", "--num-envs 2 --max-envs 1", "--num-envs 2|--max-envs 1"),
    Mistake("more history than cache", "--history 11 --cache-frames 10", "--history 11|--cache-frames 10"),
    Mistake("an address that is none", "--dashboard here", "--dashboard|127.0.0.1:8080"),
    Mistake("a port that is none", "--dashboard 127.0.0.1:99999", "--dashboard|0 to 65535"),
    Mistake("another machine's address", "--dashboard 192.0.2.1:8080", "--dashboard|127.0.0.1"),
    Mistake("an unknown host", "--dashboard nobody.invalid:8080", "--dashboard|127.0.0.1"),
    Mistake("a port in use", "--dashboard 127.0.0.1:@PORT", "--dashboard|in use"),
    Mistake("no size", "--memory-budget lots", "--memory-budget lots|12G"),
    Mistake("no memory", "--memory-budget 0", "--memory-budget 0|at least"),
    Mistake("a negative size", "--memory-budget -5G", "--memory-budget -5G|12G"),
    Mistake("more than all", "--memory-budget 150%", "--memory-budget 150%|100%"),
    Mistake("less than any run takes", "--memory-budget 20M", "--memory-budget 20M|at least"),
)
FILES = (
    Mistake("an unknown profile", "--config fastest", "--config fastest|quick_demo"),
    Mistake("no such profile", "--config @/no.yaml", "no.yaml|no such file"),
    Mistake("a folder for a profile", "--config @/folder.yaml", "folder.yaml|no such file"),
    Mistake("a profile that is no YAML", "--config @/broken.yaml", "broken.yaml|is not YAML"),
    Mistake("a profile of bytes", "--config @/binary.yaml", "binary.yaml|cannot be read"),
    Mistake("a profile that is a list", "--config @/list.yaml", "list.yaml|collection: {num_envs: 4}"),
    Mistake("an unknown part", "--config @/part.yaml", "part.yaml|colection|collection"),
    Mistake("an unknown key", "--config @/key.yaml", "key.yaml|num_env|num_envs"),
    Mistake("a key in the wrong part", "--config @/place.yaml", "place.yaml|num_envs|belongs under collection"),
    Mistake("a list for a value", "--config @/value.yaml", "value.yaml|num_envs|a single value"),
    Mistake("a wrong value in a profile", "--config @/type.yaml", "type.yaml|batch_fragments|whole number"),
    Mistake("an unknown scenario", "--scenario grid5x5", "grid5x5|did you mean grid4x4"),
    Mistake("no scenario", "--scenario=", "--scenario|must"),
    Mistake("too few simulations", "--scenario single,arterial --num-envs 1", "--num-envs 1|at least 2"),
    Mistake("one scenario twice", "--scenario single,single", "single|twice"),
    Mistake("a demand that cannot be", "--demand-scale 1.2:0.8", "--demand-scale 1.2:0.8|0.8:1.2"),
    Mistake("an unknown benchmark", "--scenario resco:cologne2", "cologne2|cologne1"),
    Mistake("no such .sumocfg", "--scenario @/no.sumocfg", "no.sumocfg|no such file"),
    Mistake("a folder for a scenario", "--scenario @", "must be a SUMO configuration"),
    Mistake("a .sumocfg that is no XML", "--scenario @/broken.sumocfg", "broken.sumocfg"),
    Mistake("a .sumocfg of bytes", "--scenario @/binary.sumocfg", "binary.sumocfg"),
    Mistake("a missing network", "--scenario @/netless.sumocfg", "missing.net.xml"),
    Mistake("a network without signals", "--scenario @/plain.sumocfg", "plain.sumocfg|traffic light"),
    Mistake("a run folder that is a file", "--run-dir @/file", "--run-dir|file|cannot be a folder"),
    Mistake("a run folder that cannot be", "--run-dir /proc/run", "--run-dir /proc/run|cannot be a folder"),
    Mistake("a run folder's name too long", f"--run-dir @/{'x' * 300}", "--run-dir|cannot be a folder"),
    Mistake("another run's folder", "--run-dir @/run", "--run-dir|--resume"),
    Mistake("a live run's folder", "--run-dir @LIVE", "in use|--run-dir"),
    Mistake("resuming a live run", "--resume --run-dir @LIVE", "in use|--run-dir"),
    Mistake("--resume of nothing named", "--resume --run-dir=", "--run-dir|holds no run"),
    Mistake("--resume where nothing is", "--resume --run-dir @/nowhere", "--run-dir|holds no run"),
    Mistake("--resume without checkpoint", "--resume --run-dir @/run", "--resume|no checkpoint"),
    Mistake("--resume of another shape", "--resume --run-dir @/shaped --hidden 32", "--resume|--hidden"),
    Mistake("--resume from damage", "--resume --run-dir @/damaged", "--resume|no checkpoint"),
)
EVALUATIONS = (
    Mistake("no controller", "--scenario single", "--controller", evaluate=True),
    Mistake("an unknown controller", "--controller clever", "--controller clever|max-pressure", evaluate=True),
    Mistake("no seeds", "--controller fixed --seeds 0", "--seeds 0|must be", evaluate=True),
    Mistake("no processes", "--controller fixed --processes 0", "--processes 0|at least 1", evaluate=True),
    Mistake("no time", "--controller fixed --timeout nan", "--timeout nan|must be", evaluate=True),
    Mistake("a damaged checkpoint", "--controller @/cut.pt", "cut.pt|damaged", evaluate=True),
    Mistake("a bent checkpoint", "--controller @/bent.pt", "bent.pt|damaged", evaluate=True),
    Mistake("no checkpoint", "--controller @/binary.yaml", "binary.yaml|not a checkpoint", evaluate=True),
    Mistake("code for a checkpoint", "--controller @/code.pt", "code.pt", evaluate=True),
    Mistake("a folder without one", "--controller @/run", "run|holds no checkpoint", evaluate=True),
    Mistake("something else's checkpoint", "--controller @/other.pt", "other.pt|not a policy's", evaluate=True),
)
# fmt: on
MISTAKES = (*FLAGS, *FILES, *EVALUATIONS)


def prepare(folder: Path, checkpoint: Path) -> None:
    """Write the wrong files; those of checkpoints from a good one."""
    folder.mkdir()
    texts = {
        "file": "",
        "broken.yaml": "collection: {num_envs: 4",
        "list.yaml": "- num_envs",
        "part.yaml": "colection: {num_envs: 4}",
        "key.yaml": "collection: {num_env: 4}",
        "place.yaml": "num_envs: 4",
        "value.yaml": "collection: {num_envs: [1, 2]}",
        "type.yaml": "learner: {batch_fragments: four}",
        "broken.sumocfg": "<configuration><net-file",
        "netless.sumocfg": '<configuration><net-file value="missing.net.xml"/></configuration>',
        "plain.sumocfg": '<configuration><net-file value="plain.net.xml"/><end value="100"/></configuration>',
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name in ("binary.yaml", "binary.sumocfg"):
        (folder / name).write_bytes(bytes(range(256)) * 16)
    (folder / "folder.yaml").mkdir()
    command = [str(sumo.binary("netgenerate")), "--grid", "--grid.number=2", "--output-file=plain.net.xml"]
    subprocess.run(command, cwd=folder, env=sumo.environment(), check=True, capture_output=True, timeout=LIMIT)
    content = checkpoint.read_bytes()
    (folder / "cut.pt").write_bytes(content[: len(content) // 2])
    (folder / "bent.pt").write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    (folder / "code.pt").write_bytes(pickle.dumps(os.getcwd))
    checkpoints.save(folder, 1, {"nothing": 1}, keep=1).rename(folder / "other.pt")
    settings = (checkpoint.parents[1] / "config.yaml").read_bytes()
    for name, kept in (("run", None), ("shaped", content), ("damaged", content[:-1])):
        (folder / name / "checkpoints").mkdir(parents=True)
        (folder / name / "config.yaml").write_bytes(settings)
        if kept is not None:
            (folder / name / "checkpoints" / checkpoint.name).write_bytes(kept)


def make(mistakes: tuple[Mistake, ...], folder: Path, live: Path) -> Iterator[Answer]:
    """Make these mistakes, two at once; ``live`` is the folder of a run that is under way."""
    with socket.create_server(("127.0.0.1", 0)) as taken, ThreadPoolExecutor(2) as pool:
        port = str(taken.getsockname()[1])

        def one(numbered: tuple[int, Mistake]) -> Answer:
            number, mistake = numbered
            flags = [
                word.replace("@PORT", port).replace("@LIVE", str(live)).replace("@", str(folder))
                for word in mistake.flags.split(" ")
            ]
            return _judge(mistake, flags, folder / f"new-{number}")

        yield from pool.map(one, enumerate(mistakes))


def _judge(mistake: Mistake, flags: list[str], fresh: Path) -> Answer:
    """Make one mistake, in a run folder of its own unless it names another."""
    own = () if mistake.evaluate else (*SINGLE, "--time-limit", "5", "--run-dir", str(fresh))
    command = [*(_EVALUATE if mistake.evaluate else PROGRAM), *own, *flags]
    shown = f"{mistake.what}: {mistake.flags.replace('@', '') if len(mistake.flags) < 80 else mistake.flags[:60] + '…'}"
    try:
        done = subprocess.run(command, cwd=fresh.parent, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return Answer(shown, f"nothing for {LIMIT:g} s", False)
    said = done.stderr.strip().replace(f"{fresh.parent}/", "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("passed over: ")]
    named = all(word in said for word in mistake.words.replace("@", "").split("|"))
    right = done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: ") and named
    return Answer(shown, said if right else f"exit code {done.returncode}: {said[-600:]}", right)
