"""Containers, as tests need them: started, asked, stopped, and gone at the end."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.waiting import wait_for

SHARED = ("--shm-size", "1g")
_LIMIT = 120.0  # s for any command but a run that is awaited
_STARTING = 90.0  # s until a run learns


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything."""
        return self.out + self.err


@dataclass
class Engine:
    """Docker or podman, and what it has made here."""

    program: str
    image: str
    _containers: list[Container] = field(default_factory=list)
    _volumes: list[str] = field(default_factory=list)

    @property
    def locked(self) -> tuple[str, ...]:
        """As little as a container can be given: no network, no powers, nothing to write but /tmp and volumes."""
        # podman would make more places writable than Docker does.
        read_only = ("--read-only", "--read-only-tmpfs=false") if self.program == "podman" else ("--read-only",)
        return ("--network", "none", *read_only, "--tmpfs", "/tmp:rw,size=512m,mode=1777", "--cap-drop", "ALL", *SHARED)

    def ask(self, *words: str, limit: float = _LIMIT) -> Answer:
        """Do a command of the engine's."""
        ended = subprocess.run(
            [self.program, *words], capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL, check=False
        )
        return Answer(ended.returncode, ended.stdout, ended.stderr)

    def run(self, *words: str, options: Sequence[str] = (), limit: float = _LIMIT) -> Answer:
        """A container to its end: ``words`` are what is written behind the image's name."""
        name = _new_name()
        try:
            return self.ask("run", "--rm", "--name", name, *options, self.image, *words, limit=limit)
        finally:
            self.ask("rm", "--force", "--volumes", name)

    def start(self, *words: str, options: Sequence[str] = ()) -> Container:
        """A container in the background."""
        name = _new_name()
        answer = self.ask("run", "--detach", "--name", name, *options, self.image, *words)
        container = Container(self, name)
        self._containers.append(container)
        assert answer.code == 0, answer.said
        return container

    def volume(self) -> str:
        """A new volume's name."""
        name = _new_name()
        assert self.ask("volume", "create", name).code == 0
        self._volumes.append(name)
        return name

    def about_image(self) -> dict[str, Any]:
        """What the engine knows of the image."""
        (about,) = json.loads(self.ask("image", "inspect", self.image).out)
        return dict(about)

    def remove_all(self) -> None:
        """Everything that was made here."""
        for container in self._containers:
            self.ask("rm", "--force", "--volumes", container.name)
        for volume in self._volumes:
            self.ask("volume", "rm", "--force", volume)


@dataclass(frozen=True)
class Container:
    """One that runs, or has run."""

    engine: Engine
    name: str

    def do(self, *words: str) -> Answer:
        """Do a command in it, as `docker exec` would."""
        return self.engine.ask("exec", self.name, *words)

    def status(self) -> dict[str, Any]:
        """What `platoon status --json` says of the first rank; nothing where it does not answer."""
        answer = self.do("platoon", "status", "--json")
        return dict(json.loads(answer.out)[0]) if answer.code == 0 else {}

    def decisions(self) -> int:
        """How many have been made."""
        return int(self.status().get("decisions", 0))

    def said(self) -> str:
        """Its output so far."""
        return self.engine.ask("logs", self.name).said

    def wait_until_it_learns(self) -> None:
        """Until there were decisions, and weights that were learned from them."""
        wait_for(lambda: self.status().get("version", 1) > 1 or self.ended(), "a version that was learned", _STARTING)
        assert not self.ended(), self.said()

    def wait_for_progress(self) -> None:
        """Until more decisions were made than now."""
        before = self.decisions()
        wait_for(lambda: self.decisions() > before, "further decisions")

    def ended(self) -> bool:
        """Whether its first process has."""
        return self._state("Status") in ("exited", "stopped")

    def code(self) -> int:
        """Its exit code."""
        return int(self._state("ExitCode"))

    def is_healthy(self) -> bool:
        """What its health check says now."""
        if self.engine.program == "podman":  # which lets systemd call it, where there is one
            return self.engine.ask("healthcheck", "run", self.name).code == 0
        return self._state("Health.Status") == "healthy"

    def stop(self) -> None:
        """As `docker stop`."""
        answer = self.engine.ask("stop", "-t", "30", self.name)
        assert answer.code == 0, answer.said

    def _state(self, what: str) -> str:
        return self.engine.ask("inspect", "--format", "{{.State." + what + "}}", self.name).out.strip()


def _new_name() -> str:
    """That nothing else has."""
    return f"platoon-{uuid.uuid4().hex[:8]}"
