"""A SUMO process of our own, spoken to over TraCI: one wait per decision."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import traci.constants as tc
from numpy.typing import NDArray
from traci.connection import Connection
from traci.exceptions import FatalTraCIError, TraCIException

from envs import codec, sumo
from envs.errors import SumoError
from envs.last_words import LastWords
from envs.mail import Mail
from envs.network import Network, read_network
from envs.programs import SwitchingProgram
from envs.scenarios import Scenario
from envs.session import (
    TOTALS,
    PhaseCommand,
    Snapshot,
    delays_under_way,
    install_programs,
    simulation_options,
    time_after,
)
from envs.variation import AS_IT_IS, Variation

_ATTEMPTS = 5  # ports to try
_LOADS = 500  # scenarios that a SUMO loads until another takes its place: 1.28 loses about 1 KB of memory with each
_LAST_MOMENTS = 5.0  # s for the end of a SUMO that was killed, or has hung up
_MUCH_LONGER = 5.0  # times as long as it has taken so far
_POLL = 0.002  # s between two attempts to connect; SUMO needs some 30 ms to listen
_SET_PDEATHSIG = 1  # linux/prctl.h
_ADDR_NO_RANDOMIZE, _AS_IT_IS = 0x0040000, 0xFFFFFFFF  # linux/personality.h; the latter only asks
_LIBC = ctypes.CDLL(None)

# Bytes of SUMO's answers, at the very least.
_OBEYED = 7  # to a command
_STEPPED = 4 + _OBEYED + 4  # to a step
_OBSERVED = 4 + _OBEYED + 6  # to a bulk read

_BROKEN = (OSError, FatalTraCIError, TraCIException, codec.ProtocolError)


class TraciSession:
    """One SUMO process, of ``sumo`` or ``sumo-gui``; see ``envs.session.Session`` for what each method does.

    ``start_limit`` and ``step_limit`` are the seconds that SUMO may take to load a scenario, its own start included,
    and to answer. Once it is known how long loading takes, much longer is too long. ``variation`` is drawn from at each
    reset. Raises ``SumoError`` with SUMO's last words when it dies, refuses or hangs.
    """

    def __init__(
        self,
        scenario: Scenario,
        time_to_teleport: float = -1.0,
        network: Network | None = None,
        extra_options: Sequence[str] = (),
        start_limit: float = 60.0,
        step_limit: float = 60.0,
        variation: Variation = AS_IT_IS,
        program: str = "sumo",
    ) -> None:
        self.scenario = scenario
        self._variation = variation
        self._program = program
        self._options = (time_to_teleport, tuple(extra_options))
        self._start_limit, self._step_limit = start_limit, step_limit
        self._process: subprocess.Popen[bytes] | None = None
        self._words = LastWords()
        self._pending = 0  # commands whose answers come before that of the step
        self._watching = False  # every step brings all vehicles
        self._switched = False  # the answer to that comes first
        self._loads = 0
        self._slowest = 0.0  # s that loading has taken at most
        deadline = time.monotonic() + start_limit
        self.client = self._start(deadline)
        try:
            with self._loading(start_limit, deadline):
                self.network = network or read_network(self.client)
                self._step = float(self.client.simulation.getDeltaT())  # s
                self._time = float(self.client.simulation.getTime())  # s
        except BaseException:
            self.close()
            raise
        self._lanes = codec.LaneIndex(self.network.lane_ids)
        junction = self.network.junction
        self._watch = codec.message(codec.watch_all_vehicles(junction))
        self._drop = codec.message(codec.drop_subscriptions(junction))
        self._read = codec.message(codec.read_all_vehicles(junction))
        self._look = codec.message(codec.read_all_vehicles(junction), codec.get(tc.CMD_GET_SIM_VARIABLE, tc.VAR_TIME))
        self._statistics = codec.message(
            *(codec.get(tc.CMD_GET_SIM_VARIABLE, tc.VAR_PARAMETER, key) for key in TOTALS.values())
        )

    @property
    def pids(self) -> list[int]:
        """The process id of SUMO; none once closed."""
        return [] if self._process is None else [self._process.pid]

    def _start(self, deadline: float) -> Connection:
        """Start SUMO and connect, on another port when somebody took ours; SUMO listens before it loads anything."""
        for attempt in range(_ATTEMPTS):
            # The port stays bound here until SUMO listens on it, so that nobody is given the same one meanwhile.
            with socket.socket() as reservation:
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                reservation.bind(("127.0.0.1", 0))
                port = reservation.getsockname()[1]
                self._process = self._spawn(port)
                connection = self._connect(port, deadline)
            if connection is not None:
                self._mail = Mail(connection._socket, self._step_limit, grace=min(1.0, self._step_limit / 8))
                return connection
            if "port" not in self._words.text().lower() or attempt == _ATTEMPTS - 1:
                break
        self.close_process()
        raise SumoError(f"SUMO could not start with {self.scenario.config}: {self._words.quote()}")

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def prepare() -> None:
            # Who goes first in a crowded junction depends on addresses in memory in SUMO 1.28. A container may forbid
            # to fix them, as Docker does by default: then an episode is not always the same.
            _LIBC.personality(_LIBC.personality(_AS_IT_IS) | _ADDR_NO_RANDOMIZE)
            _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died in between
                os._exit(1)

        time_to_teleport, extra = self._options
        options = simulation_options(self.scenario, 0, time_to_teleport, extra)
        return subprocess.Popen(
            [sumo.binary(self._program), *options, "--remote-port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._words.fileno(),
            env=sumo.environment(),
            start_new_session=True,  # Ctrl-C is for us; SUMO ends when we say so
            preexec_fn=prepare,
        )

    def _connect(self, port: int, deadline: float) -> Connection | None:
        """Connect as soon as SUMO listens; None when it ended before it did."""
        assert self._process is not None
        while self._process.poll() is None:
            try:
                return Connection("127.0.0.1", port, self._process, None, True, None)
            except OSError:
                if time.monotonic() > deadline:
                    self.close_process()
                    raise SumoError(
                        f"SUMO did not listen on port {port} within {self._start_limit:g} s: {self._words.quote()}"
                    ) from None
                time.sleep(_POLL)
        return None

    def reset(self, seed: int) -> None:
        time_to_teleport, extra = self._options
        options = [*extra, *self._variation.options(self.scenario, seed)]
        limit = min(self._start_limit, max(self._step_limit, _MUCH_LONGER * self._slowest))
        deadline = time.monotonic() + limit
        if self._loads == _LOADS:
            self.close_process()
            self.client, self._loads = self._start(deadline), 0
        self._loads += 1
        with self._loading(limit, deadline):
            while self._mail.owed:  # somebody was interrupted between send and receive, in a notebook for example
                self._mail.next()
            self._watching = False
            self._words.forget()  # of the episode before: a SUMO that warns at every step would fill the disk
            self.client.load(simulation_options(self.scenario, seed, time_to_teleport, options))
            self._time = float(self.client.simulation.getTime())  # answered once the scenario is loaded

    def install(self, programs: dict[str, SwitchingProgram]) -> None:
        with self.explained():
            install_programs(self.client, self.network, programs)

    def send(self, commands: Sequence[PhaseCommand], until: float) -> None:
        after = time_after(self._time, until, self._step)
        # Where every simulation step is a decision, SUMO is told once to send all vehicles with each of them.
        watching = 0 < after - self._time < 1.5 * self._step
        switch = b"" if watching == self._watching else self._watch if watching else self._drop
        phases = codec.message(*(codec.set_phase(c.signal, c.phase) for c in commands)) if commands else b""
        read = b"" if watching else self._read
        self._watching, self._switched, self._pending = watching, bool(switch), len(commands)
        least = _STEPPED + (4 + _OBEYED) * bool(switch) + (4 + _OBEYED * len(commands)) * bool(commands)
        # Messages sent at once, so that SUMO never waits for us between them. In a single message SUMO would answer
        # neither what precedes a step nor what follows it.
        outgoing = (switch, phases, codec.message(codec.step_until(until)), read)
        try:
            self._mail.send(b"".join(outgoing), sum(map(bool, outgoing)), least + _OBSERVED * (not watching))
        except _BROKEN as error:
            raise self._failure(error) from error
        self._time = after

    def receive(self) -> Snapshot:
        try:
            if self._switched:
                self._mail.next().status(tc.CMD_SUBSCRIBE_JUNCTION_CONTEXT)
            if self._pending:
                answers = self._mail.next()
                for _ in range(self._pending):
                    answers.status(tc.CMD_SET_TL_VARIABLE)
            reply = self._mail.next()
            reply.status(tc.CMD_SIMSTEP)
            if not self._watching:
                reply = self._mail.next()
                reply.status(tc.CMD_SUBSCRIBE_JUNCTION_CONTEXT)
            elif (found := reply.subscriptions()) != 1:
                raise codec.ProtocolError(f"SUMO's step brings {found} subscriptions where one was asked for")
            return Snapshot(self._time, *reply.vehicles(self._lanes))
        except _BROKEN as error:
            raise self._failure(error) from error

    def check(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise self._failure(FatalTraCIError("connection closed"))

    def observe(self) -> Snapshot:
        with self.explained():
            self._mail.send(self._look, 1, _OBSERVED)
            reply = self._mail.next()
            reply.status(tc.CMD_SUBSCRIBE_JUNCTION_CONTEXT)
            vehicles, lanes = reply.vehicles(self._lanes)
            self._time = float(reply.value(tc.CMD_GET_SIM_VARIABLE))  # somebody may have stepped with the client
            return Snapshot(self._time, vehicles, lanes)

    def totals(self) -> dict[str, float]:
        with self.explained():
            self._mail.send(self._statistics, 1, _OBSERVED)
            answers = self._mail.next()
            return {name: float(answers.value(tc.CMD_GET_SIM_VARIABLE)) for name in TOTALS}

    def delays_under_way(self) -> NDArray[np.float64]:
        with self.explained():
            self._watching = False  # the read ends all subscriptions around the junction
            return delays_under_way(self.client, self.network.junction)

    def finish(self) -> None:
        assert self._process is not None, "finish() after close()"
        with self.explained():
            self.client.close(wait=False)
            try:
                code = self._process.wait(self._step_limit)
            except subprocess.TimeoutExpired as error:
                raise TimeoutError from error
            if code != 0:
                raise FatalTraCIError("connection closed")
        self.close()

    @contextmanager
    def _loading(self, limit: float, deadline: float) -> Iterator[None]:
        """Wait until the deadline (monotonic s), ``limit`` s in all, for what SUMO answers once it has loaded."""
        left = max(0.0, deadline - time.monotonic())
        overdue = f"has not loaded its scenario within {limit:g} s (start_limit; in a run, --stall-limit)"
        with self.explained(left, overdue):
            self._mail.wait_at_most(left)
            yield
            self._mail.wait_at_most(self._step_limit)
        self._slowest = max(self._slowest, limit - (deadline - time.monotonic()))

    @contextmanager
    def explained(self, limit: float | None = None, overdue: str = "") -> Iterator[None]:
        """Turn whatever breaks while talking to SUMO into a ``SumoError`` that quotes SUMO.

        Without an answer for ``limit`` s, by default ``step_limit``, SUMO is ``overdue``, in these words.
        """
        began, limit = time.monotonic(), self._step_limit if limit is None else limit
        try:
            yield
        except _BROKEN as error:
            # The stock client calls a connection closed that it gave up itself.
            late = isinstance(error, FatalTraCIError) and time.monotonic() - began >= limit
            raise self._failure(TimeoutError() if late else error, overdue) from error

    def _failure(self, error: BaseException, overdue: str = "") -> SumoError:
        """What went wrong between us and SUMO, in one line that quotes it."""
        process, code = self._process, None
        if isinstance(error, TimeoutError):
            what = f"SUMO (process {self.pids[0]}) {overdue or f'has not answered for {self._step_limit:g} s'}"
        elif isinstance(error, codec.ProtocolError | TraCIException):
            what = " ".join(str(error).split())  # SUMO's own may have several lines
        else:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_LAST_MOMENTS) if process is not None else None
            what = _ending(code) if code is not None else f"the connection to SUMO broke ({error})"
        return SumoError(f"{what} in scenario {self.scenario.name}: {self._words.quote()}", code)

    def close(self) -> None:
        self.close_process()
        self._words.close()

    def close_process(self) -> None:
        """End SUMO at once: it holds nothing that is worth a farewell."""
        client = getattr(self, "client", None)
        if client is not None and client._socket is not None:
            client._socket.close()
        if self._process is not None:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_MOMENTS)
            self._process = None


def _ending(code: int) -> str:
    """What an exit code means; SUMO crashes over some files without a word."""
    return f"SUMO ended with code {code}" if code >= 0 else f"SUMO was ended by {signal.Signals(-code).name}"
