"""The run's settings: one typed record per part, filled from defaults, a profile and flat flags, in that order.

Every setting is a flag (`--num-envs 4`) and a key of a YAML file (`collection: {num_envs: 4}`). Whatever is wrong with
one of them raises a `SettingsError` of one line that names it and says what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, Self, get_args

import tyro
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

PROFILES = Path(__file__).parent / "configs"
_CAPACITY = 64  # simulations that there may be at least, unless somebody says how many


class SettingsError(ValueError):
    """A setting is wrong; the message is the one line that the user sees."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class EnvSettings(_Record):
    """The traffic, and what the agents decide in it."""

    scenario: str = Field(
        "grid4x4",
        min_length=1,
        description="grid4x4, single, arterial, resco:NAME or a .sumocfg; several, as a,b,c, share the simulations.",
    )
    task: Literal["signals"] = Field(
        "signals", description="What is controlled: each traffic light's next green phase."
    )
    backend: Literal["traci", "libsumo"] = Field("traci", description="How SUMO runs: on a socket or in the process.")
    decision_interval: float = Field(10.0, ge=0.1, description="Simulated seconds between two decisions.")
    yellow_time: float = Field(3.0, ge=0, description="Seconds of yellow before another phase turns green.")
    min_green: float = Field(5.0, gt=0, description="Seconds that a green phase lasts at least.")
    max_red: float = Field(
        120.0,
        gt=0,
        description="Seconds that somebody may stand on a lane while one of its ways on is red; "
        "then a policy must choose a phase that lets it go.",
    )
    max_hold: float = Field(
        60.0,
        ge=0,
        description="A policy must keep green for who is held up inside a junction by somebody who has stood there for "
        "fewer seconds than this; 0: never.",
    )
    episode_seconds: float | None = Field(
        None, gt=0, description="Simulated seconds of one episode; none: the scenario's own window."
    )
    reward: Literal["queue", "waiting", "waiting-difference", "delay", "pressure"] = Field(
        "delay", description="What each signal is rewarded for keeping low."
    )
    time_to_teleport: float = Field(
        -1.0, ge=-1, description="Seconds until SUMO takes a stuck vehicle out of the way; -1: never."
    )
    gridlock: Literal["ends", "stays"] = Field(
        "ends",
        description="Whether a training episode ends as soon as it is gridlocked, or stays until its time is over.",
    )
    demand_scale: str = Field(
        "1",
        description="Factor on the number of vehicles; a range, as 0.8:1.2, is drawn from anew for each episode.",
    )
    departure_jitter: float = Field(
        30.0, ge=0, description="Each vehicle departs up to this many seconds later than planned, at random."
    )

    @field_validator("demand_scale")
    @classmethod
    def _demand_scale_is_a_range(cls, text: str) -> str:
        low, colon, high = text.partition(":")
        try:
            right = 0 < float(low) <= float(high if colon else low) < float("inf")
        except ValueError:
            right = False
        if not right:
            raise ValueError(f"--demand-scale {text}: must be above 0, a factor such as 1.2 or a range such as 0.8:1.2")
        return text


class CollectionSettings(_Record):
    """How many simulations run side by side, and how their experience travels."""

    num_envs: int = Field(4, ge=1, description="Simulations that run side by side, per rank.")
    max_envs: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Simulations that `scale` may go up to; none: 64, or --num-envs if that is more.",
    )
    num_collectors: int | None = Field(
        None, ge=0, description="Worker processes that share them; none: fits the machine; 0: serial, in the learner."
    )
    queue_size: int = Field(
        12,
        ge=1,
        description="Finished fragments that may wait unread; rounded up to a multiple of the simulations.",
    )
    fragment_length: int = Field(16, ge=1, description="Decisions in one fragment.")
    slot_vehicles: int | None = Field(
        None, ge=1, description="Vehicles per frame that a slot has room for; none: from the network."
    )
    stall_limit: float = Field(
        30.0, ge=2, description="Seconds without a sign of life until a collector or its SUMO is replaced."
    )
    restart_limit: int = Field(
        5, ge=0, description="Failures in a row, without an episode ended in between, that are mended before giving up."
    )
    poison: bool = Field(
        False, description="For debugging: overwrite fragments that have been read, and verify a checksum of each."
    )

    @property
    def capacity(self) -> int:
        """Simulations that there may ever be."""
        return self.max_envs or max(_CAPACITY, self.num_envs)

    @property
    def capacity_flag(self) -> str:
        """The flag that a smaller capacity takes."""
        return "--num-envs" if self.max_envs is None and self.num_envs > _CAPACITY else "--max-envs"

    @model_validator(mode="after")
    def _every_env_fits(self) -> Self:
        if self.num_envs > self.capacity:
            raise ValueError(f"--num-envs {self.num_envs}: must be at most --max-envs {self.max_envs}")
        return self

    @model_validator(mode="after")
    def _every_collector_has_an_env(self) -> Self:
        if self.num_collectors is not None and self.num_collectors > self.num_envs:
            raise ValueError(f"--num-collectors {self.num_collectors}: must be at most --num-envs {self.num_envs}")
        return self


class GraphSettings(_Record):
    """How frames become graphs."""

    radius: float = Field(50.0, gt=0, description="Metres within which two vehicles are joined by an edge.")
    history: int = Field(1, ge=1, description="Frames that the policy sees at once.")
    cache_frames: int = Field(16, ge=10, le=20, description="Latest frames kept per simulation.")
    loader_workers: int = Field(0, ge=0, description="Processes that build batches; 0: the learner builds them itself.")

    @model_validator(mode="after")
    def _history_is_cached(self) -> Self:
        if self.history > self.cache_frames:
            raise ValueError(f"--history {self.history}: must be at most --cache-frames {self.cache_frames}")
        return self


class PolicySettings(_Record):
    """The network's shape."""

    hidden: int = Field(64, ge=1, le=4096, description="Width of every hidden layer.")
    vehicle_rounds: int = Field(
        0, ge=0, le=4, description="Rounds of message passing among vehicles, over edges shorter than --radius."
    )
    phase_rounds: int = Field(2, ge=0, le=8, description="Rounds of message passing among phases.")


class LearnerSettings(_Record):
    """How the policy learns."""

    learning_rate: float = Field(3e-3, gt=0, description="Step size of Adam.")
    discount: float = Field(0.95, ge=0, le=1, description="Worth of a reward one decision later.")
    batch_fragments: int = Field(8, ge=1, description="Fragments in one batch.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are summed into one optimizer step.")
    amp: Literal["off", "bf16", "fp16"] = Field("off", description="Number format of autocast.")
    exploration: float = Field(
        0.05, ge=0, description="Weight of the log barrier that keeps every phase likely enough to be tried."
    )
    value_weight: float = Field(0.5, ge=0, description="Weight of the value loss.")
    reuse: int = Field(4, ge=1, description="Optimizer steps per update: one on new experience, the others on recent.")
    replay: int = Field(8, ge=1, description="Latest updates from whose experience --reuse draws.")
    averaging: float = Field(
        0.99, ge=0, lt=1, description="Share of the average weights that one step leaves; the average is what is kept."
    )
    gradient_clip: float = Field(0.5, gt=0, description="Largest norm of the gradient.")
    rho_clip: float = Field(1.0, gt=0, description="Clip of V-trace's weight on the temporal difference.")
    c_clip: float = Field(1.0, gt=0, description="Clip of V-trace's weights on the trace.")
    trace: float = Field(0.7, ge=0, le=1, description="V-trace's lambda: how far a reward is traced back.")
    ratio_clip: float = Field(
        0.2, gt=0, description="How far a step may take the policy from the one that acted (PPO's epsilon)."
    )
    max_lag: int = Field(20, ge=1, description="Policy versions that experience may be old.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where it runs; auto: on CUDA where there is one."
    )

    @model_validator(mode="after")
    def _traces_are_clipped_as_low(self) -> Self:
        if self.c_clip > self.rho_clip:
            raise ValueError(f"--c-clip {self.c_clip:g}: must be at most --rho-clip {self.rho_clip:g}")
        return self

    @model_validator(mode="after")
    def _what_is_replayed_is_learned_from(self) -> Self:
        if self.reuse > 1 and self.replay > self.max_lag:
            raise ValueError(
                f"--replay {self.replay}: must be at most --max-lag {self.max_lag}; older experience counts nothing"
            )
        return self


class RunSettings(_Record):
    """Where the run is kept, and when it ends."""

    run_dir: Path | None = Field(None, description="Folder of the run; none: runs/ and the time.")
    resume: bool = Field(
        False, description="Go on with the run in --run-dir, under its own settings where no flag says otherwise."
    )
    total_decisions: int | None = Field(
        None, ge=1, description="Decisions of all simulations and ranks to end after; none: no limit."
    )
    time_limit: float | None = Field(
        240.0, gt=0, description="Seconds of training to end after, without pauses, from this start on; none: no limit."
    )
    seed: int = Field(1, ge=0, lt=2**31, description="Seed of the traffic, the weights and the exploration.")
    checkpoint_every: float = Field(60.0, gt=0, description="Seconds between two checkpoints.")
    keep_checkpoints: int = Field(3, ge=1, description="Latest checkpoints that are kept.")
    memory_budget: str = Field(
        "80%",
        min_length=1,
        description="Memory for all its processes: 12G, 800M, or a share of what there is.",
    )
    dashboard: str | None = Field(
        None, description="Address of a web page to watch and steer it, such as 127.0.0.1:8080; none: no page."
    )
    eval_seeds: int = Field(
        5, ge=0, le=1000, description="Episodes of each controller in the closing table; 0: no table."
    )

    @model_validator(mode="after")
    def _resume_has_a_run(self) -> Self:
        if self.resume and self.run_dir is None:
            raise ValueError("--resume: needs --run-dir with the folder of the run to go on with")
        return self


class Settings(_Record):
    """The settings of a run, one record per part; each part is handed its own record only."""

    env: EnvSettings = EnvSettings()
    collection: CollectionSettings = CollectionSettings()
    graph: GraphSettings = GraphSettings()
    policy: PolicySettings = PolicySettings()
    learner: LearnerSettings = LearnerSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _processes_fit_together(self) -> Self:
        envs, collectors = self.collection.num_envs, self.collection.num_collectors
        if collectors == 0 and self.graph.loader_workers > 0:
            raise ValueError(
                f"--loader-workers {self.graph.loader_workers}: must be 0 with --num-collectors 0 (serial)"
            )
        if self.env.backend == "libsumo" and collectors is not None and max(collectors, 1) != envs:
            raise ValueError(
                "--backend libsumo: runs one simulation per process, "
                f"so --num-envs {envs} needs --num-collectors {envs}, not {collectors}"
            )
        return self


class _CommandLine(Settings):
    config: str = Field("default", description="Profile to start from (a name in configs/) or a YAML file of your own.")


class _Given(NamedTuple):
    """A value as it was written, and how a complaint names it."""

    text: str
    label: str


_Values = dict[str, dict[str, _Given]]  # part → setting → what was given

_PARTS: dict[str, type[BaseModel]] = {part: type(record) for part, record in Settings()}
_PART_OF = {setting: part for part, record in _PARTS.items() for setting in record.model_fields}

# What a validation error says, by pydantic's name for it; the braces are filled from the constraint.
_SAYS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must not be none",
}


def load(argv: Sequence[str]) -> Settings:
    """Return the settings that flags, such as `["--num-envs", "4"]`, make of the defaults and a profile.

    Flags win over the file of `--config`, which wins over the defaults. With `--resume` and no `--config` that file is
    the run's own `config.yaml`. `--help` prints every flag and exits with 0.

    Raises:
        SettingsError: an unknown flag, a wrong value, settings that contradict each other, or a file that is wrong.
    """
    if "-h" in argv or "--help" in argv:
        _print_help()
    flags = dict(_flags(argv))
    path = _base(flags)
    values = _parse(_text(path), source=str(path))
    if _goes_on(flags) and (missing := _PARTS.keys() - values.keys()):
        raise SettingsError(f"{path}: is damaged: it lacks {', '.join(sorted(missing))}; mend it, or name --config")
    flags.pop("config", None)
    for name, given in flags.items():
        values.setdefault(_PART_OF[name], {})[name] = given
    return _validate(values)


def to_yaml(settings: Settings) -> str:
    """Return the settings as YAML text, one mapping per part; `from_yaml` gives them back unchanged."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(text: str, source: str = "config.yaml") -> Settings:
    """Return the settings that a YAML text makes of the defaults; `source` names it in a complaint.

    Raises:
        SettingsError: not YAML, an unknown key or a wrong value.
    """
    return _validate(_parse(text, source))


def _print_help() -> NoReturn:
    tyro.cli(
        _CommandLine,
        prog="train_rl.py",
        description="Train a graph policy on many SUMO simulations at once.",
        args=["--help"],
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    raise SystemExit(0)


def _flags(argv: Sequence[str]) -> Iterator[tuple[str, _Given]]:
    """Yield every flag's setting and its text; a later one replaces an earlier one."""
    tokens = iter(argv)
    for token in tokens:
        if not token.startswith("--"):
            raise SettingsError(f"{token}: is no flag; every setting is one, as in --num-envs 4")
        flag, equals, text = token.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if name not in _PART_OF and name != "config":
            known = [_flag(setting) for setting in (*_PART_OF, "config")]
            raise SettingsError(f"{flag}: unknown flag; {_nearest(flag, known) or 'see --help'}")
        field = _CommandLine.model_fields["config"] if name == "config" else _PARTS[_PART_OF[name]].model_fields[name]
        if field.annotation is bool:
            if equals:
                raise SettingsError(f"{token}: takes no value; write {flag} alone, or leave it out")
            yield name, _Given("true", flag)
            continue
        if not equals:
            text = next(tokens, "--")  # a missing value looks like one that another flag has taken the place of
        if text.startswith("--"):
            raise SettingsError(f"{flag}: needs a value: {field.description}")
        yield name, _Given(text, f"{flag} {text}")


def _goes_on(flags: Mapping[str, _Given]) -> bool:
    """Whether the flags build on a run's own file, which holds all settings."""
    return "config" not in flags and "resume" in flags and "run_dir" in flags


def _base(flags: Mapping[str, _Given]) -> Path:
    """Return the file that the flags build on."""
    if "config" in flags:
        return _profile(flags["config"].text)
    if _goes_on(flags):
        path = Path(flags["run_dir"].text) / "config.yaml"
        if not path.is_file():
            raise SettingsError(f"{flags['run_dir'].label}: holds no run to resume; {path} is missing")
        return path
    return PROFILES / "default.yaml"


def _profile(name: str) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if not path.is_file():
            raise SettingsError(f"--config {name}: there is no such file")
        return path
    known = sorted(profile.stem for profile in PROFILES.glob("*.yaml"))
    if name not in known:
        raise SettingsError(f"--config {name}: unknown profile; must be {', '.join(known)} or a path to a .yaml file")
    return PROFILES / f"{name}.yaml"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error


def _parse(text: str, source: str) -> _Values:
    """Read YAML as text only: a setting's type settles what its value means, as for a flag, and `off` stays "off"."""
    try:
        tree = yaml.load(text, Loader=yaml.BaseLoader) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{source}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{source}: must hold parts and their settings, as in 'collection: {{num_envs: 4}}'")
    return {part: dict(_parse_part(part, settings, source)) for part, settings in tree.items()}


def _parse_part(part: str, settings: Any, source: str) -> Iterator[tuple[str, _Given]]:
    if part in _PART_OF:
        raise SettingsError(f"{source}: {part}: belongs under {_PART_OF[part]}")
    if part not in _PARTS:
        raise SettingsError(f"{source}: {part}: unknown part; must be one of {', '.join(_PARTS)}")
    if not isinstance(settings, dict):
        raise SettingsError(f"{source}: {part}: must hold settings, as in 'collection: {{num_envs: 4}}'")
    known = _PARTS[part].model_fields
    for name, text in settings.items():
        if name not in known:
            raise SettingsError(f"{source}: {part}.{name}: unknown; {_nearest(name, known) or ', '.join(known)}")
        if not isinstance(text, str):
            raise SettingsError(f"{source}: {part}.{name}: must be a single value")
        yield name, _Given(text, f"{source}: {part}.{name} {text}")


def _validate(values: _Values) -> Settings:
    tree = {part: {name: _none_or_text(given) for name, given in record.items()} for part, record in values.items()}
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_complaint(error.errors()[0], values)) from None


def _none_or_text(given: _Given) -> str | None:
    return None if given.text.lower() in ("none", "null", "~", "") else given.text


def _complaint(error: ErrorDetails, values: _Values) -> str:
    """Return one line about the first thing that pydantic found wrong."""
    context = {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in error.get("ctx", {}).items()
    }
    if error["type"] == "value_error":  # from a check between settings, whose message is complete
        return str(context["error"])
    part, name = str(error["loc"][0]), str(error["loc"][1])
    says = _SAYS[error["type"]].format(**context).replace("'", "") if error["type"] in _SAYS else error["msg"]
    or_none = ", or none" if type(None) in get_args(_PARTS[part].model_fields[name].annotation) else ""
    return f"{values[part][name].label}: {says}{or_none}"


def _flag(setting: str) -> str:
    return "--" + setting.replace("_", "-")


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that offers the known name most like this one, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""
