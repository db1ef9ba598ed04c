"""Checkpoints: written whole or not at all, checked before use, never able to run code.

A file is one header line and then what `torch.save` writes:

    platoon-checkpoint 1 sha256 <digest of the rest, hex> <length of the rest, bytes>

The digest tells a truncated or damaged file from a good one before anything is unpickled, and `weights_only=True` keeps
a prepared file, digest and all, from running anything. One process (rank 0) writes to a folder.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import pickle
import re
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graph.schema import COLUMNS
from learner.errors import CheckpointError, UnwritableError
from learner.files import UNFINISHED, write_atomically

_LOG = logging.getLogger(__name__)
_MAGIC = b"platoon-checkpoint"
_HEADER = re.compile(_MAGIC + rb" 1 sha256 ([0-9a-f]{64}) (\d+)\n")
_HEADER_LIMIT = 128  # bytes, enough for the header line with any length
_NAME = re.compile(r"step-(\d+)\.pt")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PLAIN_TYPES = (bool, int, float, str, bytes, type(None))


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `state` as the checkpoint of `step` and return its path; afterwards only the `keep` newest remain.

    state: nested dicts, lists and tuples of tensors, numbers, strings and None.
    A reader, or a machine that loses power, sees the checkpoint before or the checkpoint after, never half of one.
    Files of later steps, which a resumed run has passed over, are left alone until the run gets there.
    Raises UnwritableError when the disk refuses, CheckpointError when the state holds anything else, ValueError when
    `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, must be at least 1 checkpoint")
    _check_plain(state, "state")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = folder / f"step-{step:012d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        write_atomically(path, _header(buffer.getbuffer()), buffer.getbuffer())
        _prune(folder, step, keep)
    except OSError as error:
        room = _room(folder, len(buffer.getbuffer())) if error.errno in _NO_ROOM else ""
        raise UnwritableError(f"cannot write checkpoint {path}: {error.strerror or error}{room}") from error
    return path


def size_of(state: dict[str, Any]) -> int:
    """Bytes of the file that `save` would make of this state, as it is now: optimizers grow with their first step."""
    count = _Count()
    torch.save(state, count)
    return count.written + _HEADER_LIMIT


def latest(folder: Path) -> Path | None:
    """The newest undamaged checkpoint of a folder, or None; a damaged one is passed over with a logged warning."""
    for _, path in sorted(_numbered(folder), reverse=True):
        try:
            _payload(path)
        except CheckpointError as error:
            _LOG.warning("passed over: %s", error)
        else:
            return path
    return None


def load(path: Path) -> dict[str, Any]:
    """The state that `save` was given, with every tensor on the CPU.

    Raises CheckpointError when the file is missing, damaged, no checkpoint, or holds more than plain data.
    """
    payload = _payload(path)
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"checkpoint {path} holds more than plain data, so it was not read") from error
    except Exception as error:  # whatever torch's readers trip over in prepared bytes: IndexError, KeyError, ...
        raise CheckpointError(f"checkpoint {path} cannot be read: {_first_line(error)}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(state).__name__}, must be a dict")
    return state


def check_columns(state: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a policy was trained on other features than there are, or in another order."""
    if state.get("columns") != COLUMNS:
        raise CheckpointError("was written by another version of this program, whose policies see other features")


def check_shapes(model_state: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError naming the first tensor in which a loaded state dict differs in shape from the model's."""
    for name in [*model_state, *(name for name in loaded if name not in model_state)]:
        ours, theirs = _shape_of(model_state, name), _shape_of(loaded, name)
        if ours != theirs:
            raise CheckpointError(
                f"a checkpoint of another shape: {name} is {theirs} in the checkpoint and {ours} in the model"
            )


def digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and bits of all tensors: equal on two ranks when the weights are."""
    sha = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


class _Count(io.BytesIO):
    """A file that keeps nothing."""

    written = 0  # bytes

    def write(self, data: Any) -> int:
        """Count it."""
        self.written += len(data)
        return len(data)


def _room(folder: Path, needed: int) -> str:
    """What is needed and what there is, in bytes; a quota or a limit of file sizes may leave less."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return f"; it takes {needed:,} bytes and {shutil.disk_usage(there).free:,} are free"


def _header(payload: memoryview) -> bytes:
    return _MAGIC + f" 1 sha256 {hashlib.sha256(payload).hexdigest()} {len(payload)}\n".encode()


def _payload(path: Path) -> bytes:
    """Everything after the header, with length and digest checked."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist") from error
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror or error}") from error
    header = _HEADER.match(content[:_HEADER_LIMIT])
    if header is None:
        raise CheckpointError(f"{path} is not a checkpoint: it must begin with {_MAGIC.decode()!r}")
    payload = content[header.end() :]
    if len(payload) != int(header[2]):
        raise CheckpointError(f"checkpoint {path} is damaged: {len(payload)} bytes, must be {int(header[2])}")
    if hashlib.sha256(payload).hexdigest() != header[1].decode():
        raise CheckpointError(f"checkpoint {path} is damaged: its bytes do not match their digest")
    return payload


def _remove_leftovers(folder: Path) -> None:
    """Delete what a writer that was killed had begun."""
    for path in folder.glob("step-*.pt" + UNFINISHED):
        path.unlink(missing_ok=True)


def _prune(folder: Path, step: int, keep: int) -> None:
    """Delete all but the `keep` newest up to `step`, so that the one just written always stays."""
    up_to_now = sorted((number, path) for number, path in _numbered(folder) if number <= step)
    for _, path in up_to_now[:-keep]:
        path.unlink(missing_ok=True)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("step-*.pt"))
    return [(int(match[1]), path) for match, path in matches if match]


def _check_plain(value: object, where: str) -> None:
    """Refuse at saving time what loading would refuse; exact types, because a numpy float is also a float."""
    if isinstance(value, Tensor) or type(value) in _PLAIN_TYPES:
        return
    if type(value) in (dict, OrderedDict):
        assert isinstance(value, dict)
        for key, item in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        assert isinstance(value, list | tuple)
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    else:
        raise CheckpointError(f"{where} is a {type(value).__name__}, must be a tensor, number, string, list or dict")


def _shape_of(state: Mapping[str, Tensor], name: str) -> str:
    return str(list(state[name].shape)) if name in state else "missing"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
