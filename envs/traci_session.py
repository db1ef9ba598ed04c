"""A SUMO process of our own, spoken to over TraCI: one wait per decision."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import traci.constants as tc
from numpy.typing import NDArray
from traci.connection import Connection
from traci.exceptions import FatalTraCIError, TraCIException

from envs import codec, sumo
from envs.errors import SumoError
from envs.network import Network, read_network
from envs.programs import SwitchingProgram
from envs.scenarios import Scenario
from envs.session import (
    TOTALS,
    PhaseCommand,
    Snapshot,
    delays_under_way,
    install_programs,
    make_snapshot,
    simulation_options,
)

_ATTEMPTS = 5  # ports to try
_POLL = 0.002  # s between two attempts to connect; SUMO needs some 30 ms to listen
_QUOTE = 2000  # bytes of SUMO's own words in an error
_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)


class TraciSession:
    """One SUMO process; see ``envs.session.Session`` for what each method does.

    ``start_limit`` and ``step_limit`` are the seconds that SUMO may take to listen and to answer. Raises ``SumoError``
    with SUMO's last words when it dies, refuses or hangs.
    """

    def __init__(
        self,
        scenario: Scenario,
        time_to_teleport: float = -1.0,
        network: Network | None = None,
        extra_options: Sequence[str] = (),
        start_limit: float = 60.0,
        step_limit: float = 60.0,
    ) -> None:
        self.scenario = scenario
        self._options = (time_to_teleport, tuple(extra_options))
        self._step_limit = step_limit
        self._process: subprocess.Popen[bytes] | None = None
        # SUMO writes its errors into a file without a name: nothing to clean up, whoever is killed.
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the session
        self._buffer = bytearray()
        self._pending = 0  # commands whose answers come before that of the step
        self._owed = 0  # messages that SUMO has yet to send
        self.client = self._start(start_limit)
        try:
            with self._explained():
                self.network = network or read_network(self.client)
        except BaseException:
            self.close()
            raise
        self._lane_lookup = self.network.lane_lookup()
        parameters = (codec.get(tc.CMD_GET_SIM_VARIABLE, tc.VAR_PARAMETER, key) for key in TOTALS.values())
        now = codec.get(tc.CMD_GET_SIM_VARIABLE, tc.VAR_TIME)
        self._bulk_read = codec.message(*codec.read_all_vehicles(self.network.junction), now, *parameters)

    @property
    def pids(self) -> list[int]:
        """The process id of SUMO; none once closed."""
        return [] if self._process is None else [self._process.pid]

    def _start(self, limit: float) -> Connection:
        """Start SUMO and connect, on another port when somebody took ours."""
        deadline = time.monotonic() + limit
        for attempt in range(_ATTEMPTS):
            # The port stays bound here until SUMO listens on it, so that nobody is given the same one meanwhile.
            with socket.socket() as reservation:
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                reservation.bind(("127.0.0.1", 0))
                port = reservation.getsockname()[1]
                self._process = self._spawn(port)
                connection = self._connect(port, deadline)
            if connection is not None:
                connection._socket.settimeout(self._step_limit)
                return connection
            if "port" not in self._last_words().lower() or attempt == _ATTEMPTS - 1:
                break
        self.close_process()
        raise SumoError(f"SUMO could not start with {self.scenario.config}: {self._quote()}")

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def die_with_parent() -> None:
            _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died in between
                os._exit(1)

        time_to_teleport, extra = self._options
        options = simulation_options(self.scenario, 0, time_to_teleport, extra)
        return subprocess.Popen(
            [sumo.binary("sumo"), *options, "--remote-port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._words,
            env=sumo.environment(),
            start_new_session=True,  # Ctrl-C is for us; SUMO ends when we say so
            preexec_fn=die_with_parent,
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
                    raise SumoError(f"SUMO did not listen on port {port} in time: {self._quote()}") from None
                time.sleep(_POLL)
        return None

    def reset(self, seed: int) -> None:
        time_to_teleport, extra = self._options
        with self._explained():
            while self._owed:  # somebody was interrupted between send and receive, in a notebook for example
                self._next_message()
            self.client.load(simulation_options(self.scenario, seed, time_to_teleport, extra))
            self.client.simulation.getTime()  # answered once the scenario is loaded

    def install(self, programs: dict[str, SwitchingProgram]) -> None:
        with self._explained():
            install_programs(self.client, self.network, programs)

    def send(self, commands: Sequence[PhaseCommand], until: float) -> None:
        # Three messages sent at once, so that SUMO never waits for us between them. In a single message SUMO would
        # answer neither what precedes a step nor what follows it.
        phases = [codec.set_phase(command.signal, command.phase) for command in commands]
        step = codec.message(codec.step_until(until))
        with self._explained():
            self._socket.sendall((codec.message(*phases) if phases else b"") + step + self._bulk_read)
        self._owed = 3 if phases else 2
        self._pending = len(phases)

    def receive(self) -> Snapshot:
        with self._explained():
            if self._pending:
                answers = codec.Reply(self._next_message())
                for _ in range(self._pending):
                    answers.status(tc.CMD_SET_TL_VARIABLE)
            codec.Reply(self._next_message()).status(tc.CMD_SIMSTEP)
            return self._snapshot(codec.Reply(self._next_message()))

    def observe(self) -> Snapshot:
        with self._explained():
            self._socket.sendall(self._bulk_read)
            self._owed = 1
            return self._snapshot(codec.Reply(self._next_message()))

    def _snapshot(self, reply: codec.Reply) -> Snapshot:
        records = reply.vehicles()
        now = float(reply.value(tc.CMD_GET_SIM_VARIABLE))
        totals = {name: float(reply.value(tc.CMD_GET_SIM_VARIABLE)) for name in TOTALS}
        return make_snapshot(now, records, self._lane_lookup, totals)

    def _next_message(self) -> bytes:
        """The next whole message from SUMO, without its length."""
        buffer = self._buffer
        while len(buffer) < 4 or len(buffer) < (length := int.from_bytes(buffer[:4])):
            received = self._socket.recv(1 << 20)
            if not received:
                raise FatalTraCIError("connection closed")
            buffer += received
        content = bytes(memoryview(buffer)[4:length])
        del buffer[:length]
        self._owed -= 1
        return content

    @property
    def _socket(self) -> socket.socket:
        """The socket under the ``traci`` connection, which drops it when the connection breaks."""
        if self.client._socket is None:
            raise FatalTraCIError("connection closed")
        return self.client._socket

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn whatever breaks while talking to SUMO into a ``SumoError`` that quotes SUMO."""
        began = time.monotonic()
        try:
            yield
        except (OSError, FatalTraCIError, TraCIException, codec.ProtocolError) as error:
            # The stock client calls a connection closed that it gave up itself.
            overdue = isinstance(error, FatalTraCIError) and time.monotonic() - began >= self._step_limit
            raise self._failure(TimeoutError() if overdue else error) from error

    def _last_words(self) -> str:
        size = os.fstat(self._words.fileno()).st_size
        return os.pread(self._words.fileno(), _QUOTE, max(0, size - _QUOTE)).decode(errors="replace").strip()

    def _quote(self) -> str:
        lines = [line.strip() for line in self._last_words().splitlines() if line.strip()]
        return "SUMO's last words: " + " / ".join(lines[-6:]) if lines else "SUMO said nothing"

    def _failure(self, error: BaseException) -> SumoError:
        """What went wrong between us and SUMO, in one line that quotes it."""
        process = self._process
        if isinstance(error, TimeoutError):
            what = f"SUMO (process {self.pids[0]}) has not answered for {self._step_limit:g} s"
        elif isinstance(error, codec.ProtocolError | TraCIException):
            what = " ".join(str(error).split())  # SUMO's own may have several lines
        else:
            try:
                code: Any = process.wait(1.0) if process is not None else None
            except subprocess.TimeoutExpired:
                code = None
            what = _ending(code) if code is not None else f"the connection to SUMO broke ({error})"
        return SumoError(f"{what} in scenario {self.scenario.name}: {self._quote()}")

    def delays_under_way(self) -> NDArray[np.float64]:
        with self._explained():
            return delays_under_way(self.client, self.network.junction)

    def finish(self) -> None:
        assert self._process is not None, "finish() after close()"
        with self._explained():
            self.client.close(wait=False)
            try:
                code = self._process.wait(self._step_limit)
            except subprocess.TimeoutExpired as error:
                raise TimeoutError from error
            if code != 0:
                raise FatalTraCIError("connection closed")
        self.close()

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
            self._process.wait()
            self._process = None


def _ending(code: int) -> str:
    """What an exit code means; SUMO crashes over some files without a word."""
    return f"SUMO ended with code {code}" if code >= 0 else f"SUMO was ended by {signal.Signals(-code).name}"
