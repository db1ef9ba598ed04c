from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from learner import checkpoints
from learner.checkpoints import check_shapes, digest, latest, load, save, size_of
from learner.errors import CheckpointError
from tests.learner.full_disk import may_mount, report


def forged(payload: bytes) -> bytes:
    """A file with a right header around any payload."""
    return (
        b"platoon-checkpoint 1 sha256 %s %d\n" % (hashlib.sha256(payload).hexdigest().encode(), len(payload)) + payload
    )


def trained_state() -> dict[str, Any]:
    """What a run keeps: model, optimiser, scaler, counters and random states."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    model(torch.ones(5, 3)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
        "counters": {"decisions": 12_345, "version": 7, "return": -1.5, "done": False, "note": None},
        "random": {"torch": torch.get_rng_state(), "numpy": np.random.default_rng(1).bit_generator.state},
        "scenario": "grid4x4",
        "shape": (1, [2, 3]),
    }


def message(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_whole_training_state_comes_back_and_goes_into_the_same_parts(tmp_path: Path) -> None:
    state = trained_state()
    loaded = load(save(tmp_path, 3, state, keep=3))

    assert digest(loaded["model"]) == digest(state["model"])
    for name in ("counters", "scheduler", "scaler", "scenario", "shape"):
        assert loaded[name] == state[name]
    torch.set_rng_state(loaded["random"]["torch"])
    generator = np.random.default_rng()
    generator.bit_generator.state = loaded["random"]["numpy"]
    assert generator.random() == np.random.default_rng(1).random()
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=9.0)
    optimizer.load_state_dict(loaded["optimizer"])
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])


def test_the_newest_are_kept_and_nothing_else_lies_about(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "checkpoints"
    paths = [save(folder, step, {"step": step}, keep=2) for step in (1, 2, 10, 9_999_999_999_999)]
    assert sorted(folder.iterdir()) == paths[2:]
    assert latest(folder) == paths[3]
    assert load(paths[3]) == {"step": 9_999_999_999_999}


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 1, {"try": 1}, keep=2)
    assert load(save(tmp_path, 1, {"try": 2}, keep=2)) == {"try": 2}
    assert len(list(tmp_path.iterdir())) == 1


def test_no_folder_and_an_empty_folder_have_no_latest(tmp_path: Path) -> None:
    assert latest(tmp_path / "missing") is None
    (tmp_path / "step-banana.pt").write_text("not ours")
    assert latest(tmp_path) is None


@pytest.mark.parametrize("kept", [0, 1, 60, 120, 500, -1])
def test_a_truncated_file_is_noticed_and_passed_over(
    tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    before, newest = (save(tmp_path, step, trained_state(), keep=2) for step in (1, 2))
    newest.write_bytes(newest.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"damaged|not a checkpoint") as error:
        load(newest)
    assert str(newest) in message(error)
    assert latest(tmp_path) == before
    assert str(newest) in caplog.text


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, 1, {"weights": torch.zeros(4)}, keep=1)
    whole = path.read_bytes()
    for place in [*range(110), *range(110, len(whole), 97), len(whole) - 1]:
        content = bytearray(whole)
        content[place] ^= 0x01
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            load(path)
        assert latest(tmp_path) is None


def test_one_damaged_file_does_not_cost_the_one_just_written(tmp_path: Path) -> None:
    save(tmp_path, 5, {"step": 5}, keep=1)
    damaged = save(tmp_path, 9, {"step": 9}, keep=1)
    damaged.write_bytes(b"")
    resumed = save(tmp_path, 6, {"step": 6}, keep=1)
    assert latest(tmp_path) == resumed


class Attack:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_prepared_pickle_runs_nothing(tmp_path: Path, as_zip: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"model": Attack(tmp_path / "victim")}, buffer, _use_new_zipfile_serialization=as_zip)
    path = tmp_path / "step-1.pt"
    path.write_bytes(forged(buffer.getvalue()))
    with pytest.raises(CheckpointError, match="more than plain data") as error:
        load(path)
    assert str(path) in message(error)
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"PK\x03\x04 but no archive", pickle.dumps([1, 2], protocol=2), b"\x80\x02."]
)
def test_a_right_digest_around_rubbish_is_still_one_line(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "step-1.pt"
    path.write_bytes(forged(payload))
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert str(path) in message(error)


def test_missing_foreign_and_unreadable_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt does not exist"):
        load(tmp_path / "none.pt")
    torch.save({"model": {}}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match=r"foreign\.pt is not a checkpoint"):
        load(tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"random": {"numpy": np.zeros(3)}}, r"state\['random'\]\['numpy'\] is a ndarray"),
        ({"lr": [1.0, np.float64(1.0)]}, r"state\['lr'\]\[1\] is a float64"),
        ({"path": Path("x")}, r"state\['path'\] is a PosixPath"),
        ({np.int64(1): 1}, "a key of state is a int64"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, state: dict[Any, Any], where: str) -> None:
    with pytest.raises(CheckpointError, match=where):
        save(tmp_path, 1, state, keep=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["disk", "limit"])
def test_a_full_disk_leaves_the_checkpoints_before_and_no_half_file(kind: str, tmp_path: Path) -> None:
    if kind == "disk" and not may_mount():
        pytest.skip("this user may not mount anything; a limit for files stands in for the disk")
    seen = report(kind, "checkpoints", tmp_path)
    said = re.fullmatch(
        r"cannot write checkpoint .*/step-0+3\.pt: [\w ]+; it takes ([\d,]+) bytes and ([\d,]+) are free",
        seen["complaint"],
    )
    assert said
    needed, free = (int(number.replace(",", "")) for number in said.groups())
    assert 4 * 35_000 < needed <= seen["needed"]
    assert free < needed or kind == "limit"
    assert seen["left"] == ["step-000000000001.pt", "step-000000000002.pt"]
    assert seen["loaded"] == [1.0, 2.0]
    assert seen["latest"]


def test_a_disk_that_fails_at_the_very_end_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = save(tmp_path, 1, {"step": 1}, keep=1)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("learner.files.os.fsync", fail)
    with pytest.raises(CheckpointError, match=r"^cannot write checkpoint .*step-0+2\.pt: Input/output error$"):
        save(tmp_path, 2, {"step": 2}, keep=1)
    assert list(tmp_path.iterdir()) == [before]
    assert load(before) == {"step": 1}


def test_a_folder_removed_between_two_saves_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    save(folder, 1, {"step": 1}, keep=2)
    shutil.rmtree(folder.parent)
    after = save(folder, 2, {"step": 2}, keep=2)
    assert latest(folder) == after
    assert load(after) == {"step": 2}


def test_the_size_of_a_file_is_known_before_it_is_written(tmp_path: Path) -> None:
    state = trained_state() | {"large": torch.zeros(300_000)}
    size = save(tmp_path, 1, state, keep=1).stat().st_size
    assert size <= size_of(state) <= size + 128
    assert size_of({}) < 2048


def test_a_writer_killed_before_the_rename_costs_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    before = save(tmp_path, 1, {"step": 1}, keep=2)
    killed = (
        "import os, signal, sys; from pathlib import Path; from learner.checkpoints import save\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save(Path(sys.argv[1]), 2, {'step': 2}, keep=2)"
    )
    root = Path(checkpoints.__file__).parents[1]
    writer = subprocess.run([sys.executable, "-c", killed, str(tmp_path)], cwd=root, timeout=60, check=False)
    assert writer.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert latest(tmp_path) == before
    after = save(tmp_path, 3, {"step": 3}, keep=2)
    assert sorted(tmp_path.iterdir()) == [before, after]


def test_keeping_none_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep is 0, must be at least 1"):
        save(tmp_path, 1, {}, keep=0)


def test_another_shape_is_named_in_one_line() -> None:
    model = {"in.weight": torch.zeros(64, 9), "in.bias": torch.zeros(64)}
    check_shapes(model, {name: tensor.clone() for name, tensor in model.items()})
    with pytest.raises(CheckpointError, match=r"another shape: in\.weight is \[32, 9\] in .* and \[64, 9\] in the mo"):
        check_shapes(model, {"in.weight": torch.zeros(32, 9), "in.bias": torch.zeros(32)})
    with pytest.raises(CheckpointError, match=r"in\.bias is missing in the checkpoint and \[64\] in the model"):
        check_shapes(model, {"in.weight": torch.zeros(64, 9)})
    with pytest.raises(CheckpointError, match=r"out\.bias is \[\] in the checkpoint and missing in the model"):
        check_shapes(model, model | {"out.bias": torch.tensor(1.0)})


def test_digest_depends_on_bits_names_shapes_and_types_and_on_nothing_else() -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1.0)}
    same = {"b": torch.tensor(1.0), "a": torch.arange(6.0).reshape(2, 3).t().contiguous().t()}
    assert digest(weights) == digest(same)
    off_by_a_bit = {**weights, "b": torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))}
    reshaped = {**weights, "a": weights["a"].reshape(3, 2)}
    retyped = {**weights, "a": weights["a"].to(torch.bfloat16)}
    renamed = {"c": weights["a"], "b": weights["b"]}
    assert len({digest(s) for s in (weights, off_by_a_bit, reshaped, retyped, renamed)}) == 5
