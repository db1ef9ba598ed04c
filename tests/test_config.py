"""Settings from flags, profiles and YAML, and the one line that every mistake gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import config
from config import EnvSettings, Settings, SettingsError, from_yaml, load, to_yaml
from envs.simulation import GRIDLOCKS

PROFILES = ["default", "high_performance", "low_memory", "quick_demo"]


def complaint(argv: list[str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def yaml_complaint(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        from_yaml(text, source="mine.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- flags ----


def test_no_flags_give_the_defaults() -> None:
    assert load([]) == Settings()


def test_flags_reach_their_part_with_their_type() -> None:
    settings = load(
        ["--num-envs", "7", "--amp=bf16", "--learning-rate", "3e-4", "--run-dir", "a b/c", "--time-to-teleport", "-1"]
    )
    assert settings.collection.num_envs == 7
    assert settings.learner.amp == "bf16"
    assert settings.learner.learning_rate == 3e-4
    assert settings.run.run_dir == Path("a b/c")
    assert settings.env.time_to_teleport == -1.0


def test_a_value_may_hold_an_equals_sign() -> None:
    assert load(["--scenario=a=b.sumocfg"]).env.scenario == "a=b.sumocfg"


def test_the_last_of_two_equal_flags_counts() -> None:
    assert load(["--seed", "2", "--seed", "3"]).run.seed == 3


@pytest.mark.parametrize("word", ["none", "None", "null"])
def test_none_lifts_a_limit(word: str) -> None:
    assert load(["--time-limit", word]).run.time_limit is None


def test_every_setting_has_a_flag_of_its_own_and_a_sentence() -> None:
    settings = [(name, field) for _, record in Settings() for name, field in type(record).model_fields.items()]
    names = [name for name, _ in settings]
    assert len(names) == len(set(names))
    assert [name for name, field in settings if not (field.description or "").endswith(".")] == []
    for name, field in settings:
        if field.annotation is not bool:
            assert complaint([f"--{name.replace('_', '-')}"]).startswith(f"--{name.replace('_', '-')}: needs a value")


def test_parts_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().run.seed = 2  # type: ignore[misc]


def test_help_lists_every_flag_and_exits_with_zero() -> None:
    code = "import config, sys; config.load(['--num-envs', '0', '--help'])"
    root = Path(config.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == ""
    for _, record in Settings():
        for name in type(record).model_fields:
            assert f"--{name.replace('_', '-')}" in done.stdout
    assert "--config" in done.stdout


# ---- mistakes on the command line ----


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--num-envs", "0"], "--num-envs 0: must be at least 1"),
        (["--num-envs", "four"], "--num-envs four: must be a whole number"),
        (["--num-envs", "2.5"], "--num-envs 2.5: must be a whole number"),
        (["--num-envs", "none"], "--num-envs none: must be a whole number"),
        (["--num-collectors", "-1"], "--num-collectors -1: must be at least 0, or none"),
        (["--decision-interval", "soon"], "--decision-interval soon: must be a number"),
        (["--decision-interval", "0"], "--decision-interval 0: must be at least 0.1"),
        (["--time-limit", "inf"], "--time-limit inf: must be a finite number, or none"),
        (["--discount", "1.5"], "--discount 1.5: must be at most 1"),
        (["--departure-jitter", "-1"], "--departure-jitter -1: must be at least 0"),
        *(
            (
                ["--demand-scale", text],
                f"--demand-scale {text}: must be above 0, a factor such as 1.2 or a range such as 0.8:1.2",
            )
            for text in ("0", "-1", "much", "1.2:0.8", "1:", "0.8:1.2:2", "nan", "0.5:inf")
        ),
        (["--cache-frames", "21"], "--cache-frames 21: must be at most 20"),
        (["--seed", str(2**31)], "--seed 2147483648: must be less than 2147483648"),
        (["--amp", "fp8"], "--amp fp8: must be off, bf16 or fp16"),
        (["--task", "vehicle"], "--task vehicle: must be signals"),
        (["--scenario", ""], "--scenario : must not be none"),
        (["--num-env", "3"], "--num-env: unknown flag; did you mean --num-envs?"),
        (["--xyzzy"], "--xyzzy: unknown flag; see --help"),
        (["--num-envs"], "--num-envs: needs a value: Simulations that run side by side, per rank."),
        (
            ["--num-envs", "--seed", "3"],
            "--num-envs: needs a value: Simulations that run side by side, per rank.",
        ),
        (["grid4x4"], "grid4x4: is no flag; every setting is one, as in --num-envs 4"),
        (["-n", "4"], "-n: is no flag; every setting is one, as in --num-envs 4"),
        (["--resume", "yes"], "yes: is no flag; every setting is one, as in --num-envs 4"),
        (["--resume=yes"], "--resume=yes: takes no value; write --resume alone, or leave it out"),
        (["--resume"], "--resume: needs --run-dir with the folder of the run to go on with"),
        (["--cache-frames", "12", "--history", "13"], "--history 13: must be at most --cache-frames 12"),
        (["--c-clip", "1.5"], "--c-clip 1.5: must be at most --rho-clip 1"),
        (["--max-lag", "7"], "--replay 8: must be at most --max-lag 7; older experience counts nothing"),
        (["--num-collectors", "5"], "--num-collectors 5: must be at most --num-envs 4"),
        (
            ["--num-collectors", "0", "--loader-workers", "1"],
            "--loader-workers 1: must be 0 with --num-collectors 0 (serial)",
        ),
        (
            ["--backend", "libsumo", "--num-collectors", "2"],
            "--backend libsumo: runs one simulation per process, so --num-envs 4 needs --num-collectors 4, not 2",
        ),
        (
            ["--config", "fast"],
            "--config fast: unknown profile; must be default, high_performance, low_memory, quick_demo "
            "or a path to a .yaml file",
        ),
        (["--config", "gone.yaml"], "--config gone.yaml: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_would_be_right(argv: list[str], line: str) -> None:
    assert complaint(argv) == line


def test_libsumo_in_serial_mode_has_one_env() -> None:
    settings = load(["--backend", "libsumo", "--num-collectors", "0", "--num-envs", "1"])
    assert settings.collection.num_collectors == 0
    assert "needs --num-collectors 4, not 0" in complaint(["--backend", "libsumo", "--num-collectors", "0"])


# ---- profiles and YAML ----


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid_from_anywhere(profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (load(["--config", profile]) == Settings()) == (profile == "default")


def test_the_profiles_are_those_that_are_promised() -> None:
    assert sorted(path.stem for path in config.PROFILES.glob("*")) == PROFILES


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("collection: {num_envs: 2, queue_size: 3}\nlearner:\n  amp: off\nrun:\n  time_limit:\n")
    settings = load(["--num-envs", "6", "--config", str(mine)])
    assert settings.collection.num_envs == 6
    assert settings.collection.queue_size == 3
    assert settings.collection.fragment_length == Settings().collection.fragment_length
    assert settings.learner.amp == "off"
    assert settings.run.time_limit is None


def test_a_flag_may_repair_what_the_file_alone_would_contradict(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("graph: {history: 17}\n")
    assert "--history 17" in complaint(["--config", str(mine)])
    assert load(["--config", str(mine), "--cache-frames", "20"]).graph.history == 17


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("collection: {num_envs: 0}", "mine.yaml: collection.num_envs 0: must be at least 1"),
        ("collection: {num_envs: yes}", "mine.yaml: collection.num_envs yes: must be a whole number"),
        ("collection: {num_envs: [1, 2]}", "mine.yaml: collection.num_envs: must be a single value"),
        ("collection: {num_env: 4}", "mine.yaml: collection.num_env: unknown; did you mean num_envs?"),
        ("collection: 4", "mine.yaml: collection: must hold settings, as in 'collection: {num_envs: 4}'"),
        ("num_envs: 4", "mine.yaml: num_envs: belongs under collection"),
        (
            "collector: {}",
            "mine.yaml: collector: unknown part; must be one of env, collection, graph, policy, learner, run",
        ),
        ("- 4", "mine.yaml: must hold parts and their settings, as in 'collection: {num_envs: 4}'"),
        ("run: {resume: perhaps}", "mine.yaml: run.resume perhaps: must be true or false"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(text: str, line: str) -> None:
    assert yaml_complaint(text) == line


def test_what_is_not_yaml_is_said_in_one_line() -> None:
    assert yaml_complaint("run: {seed: 1").startswith("mine.yaml: is not YAML: ")
    assert yaml_complaint("run: !!python/object/apply:os.getcwd []").startswith("mine.yaml: run: must hold settings")


def test_a_file_that_is_not_text_is_said_in_one_line(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_bytes(b"\xff\xfe\x00\x01")
    assert complaint(["--config", str(mine)]).startswith(f"{mine}: cannot be read: ")


# ---- a run's own config.yaml ----


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_run_whose_settings_were_cut_is_not_gone_on_with(tmp_path: Path, share: float) -> None:
    text = to_yaml(load(["--scenario", "single"]))
    end = text.index("run:") if share else 0
    (tmp_path / "config.yaml").write_text(text[:end])
    line = complaint(["--resume", "--run-dir", str(tmp_path)])
    assert line.startswith(f"{tmp_path / 'config.yaml'}: is damaged: it lacks ")
    assert "run" in line
    assert load(["--config", str(tmp_path / "config.yaml")]), "a file of settings of one's own may be short"


def test_resume_starts_from_the_settings_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(load(["--scenario", "single", "--hidden", "32"])))
    settings = load(["--run-dir", str(tmp_path), "--resume", "--total-decisions", "90"])
    assert (settings.env.scenario, settings.policy.hidden) == ("single", 32)
    assert settings.run.resume
    assert settings.run.run_dir == tmp_path
    assert settings.run.total_decisions == 90


def test_resume_without_a_run_is_refused(tmp_path: Path) -> None:
    line = complaint(["--resume", "--run-dir", str(tmp_path)])
    assert line == f"--run-dir {tmp_path}: holds no run to resume; {tmp_path / 'config.yaml'} is missing"


finite = st.floats(min_value=1e-9, max_value=1e9, exclude_min=True)


@given(
    learning_rate=finite,
    time_limit=st.none() | finite,
    num_collectors=st.none() | st.integers(0, 4),
    amp=st.sampled_from(["off", "bf16", "fp16"]),
    run_dir=st.none() | st.sampled_from([Path("a b"), Path("/tmp/ü: #x"), Path("3"), Path("off"), Path("1e3")]),
)
def test_yaml_gives_back_exactly_what_was_written(
    learning_rate: float, time_limit: float | None, num_collectors: int | None, amp: str, run_dir: Path | None
) -> None:
    settings = Settings.model_validate(
        {
            "collection": {"num_collectors": num_collectors},
            "learner": {"learning_rate": learning_rate, "amp": amp},
            "run": {"time_limit": time_limit, "run_dir": run_dir},
        }
    )
    assert from_yaml(to_yaml(settings)) == settings


def test_the_written_yaml_names_every_setting() -> None:
    text = to_yaml(Settings())
    assert all(f"\n  {name}: " in text for _, record in Settings() for name in type(record).model_fields)


@pytest.mark.parametrize("text", ["1", "0.8", "0.8:1.2", "1e-1:3"])
def test_demand_may_be_scaled_by_a_factor_or_a_range(text: str) -> None:
    settings = load(["--demand-scale", text])
    assert settings.env.demand_scale == text
    assert from_yaml(to_yaml(settings)) == settings


def test_what_a_gridlock_may_do_is_what_the_env_knows() -> None:
    assert get_args(EnvSettings.model_fields["gridlock"].annotation) == GRIDLOCKS
