"""What may be asked of a run: the bodies of requests, checked, and the messages that they become."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dashboard.answers import one_line

_WEEK = 7 * 24 * 3600.0  # s
# The run knows its own limits and says them; these keep a number within what any integer type holds.
_Number = Annotated[int, Field(ge=0, le=1_000_000)]
_Collectors = Annotated[list[_Number], Field(min_length=1)] | None


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Pause(_Body):
    """Stop collectors, all of them by default, for some seconds or until they are resumed."""

    collectors: _Collectors = None
    seconds: Annotated[float, Field(gt=0, le=_WEEK, allow_inf_nan=False)] | None = None


class Resume(_Body):
    """Let collectors, all of them by default, go on."""

    collectors: _Collectors = None


class Scale(_Body):
    """Change how many simulations every rank keeps."""

    num_envs: Annotated[_Number, Field(ge=1)]


BODIES: dict[str, type[_Body]] = {"pause": Pause, "resume": Resume, "scale": Scale}


def message(command: str, body: bytes) -> dict[str, Any]:
    """What the run is told: ``{"command": NAME, ...}``; ``seconds`` is only there where it was given.

    Raises ValueError in one line that names the wrong field and what would be right.
    """
    kind = BODIES[command]
    try:
        fields = kind.model_validate_json(body).model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        known = f"the fields are {', '.join(kind.model_fields)}"
        where = ".".join(str(part) for part in first["loc"])[:80] or "body"
        what = f"unknown; {known}" if first["type"] == "extra_forbidden" else first["msg"]
        raise ValueError(one_line(f"{where}: {what}" + (f"; {known}" if where == "body" else ""))) from error
    if fields.get("seconds", 0.0) is None:
        del fields["seconds"]
    return {"command": command, **fields}
