"""PostgreSQL and Redis on free ports of this machine, for tests and benchmarks; nothing is left."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

USER = "postgres"


class MissingServerError(Exception):
    """The machine has no such server; the message says what to install."""


class PostgresServer:
    """A cluster in a folder of its own, with PostgreSQL's own defaults for durability.

    Raises:
        MissingServerError: If PostgreSQL is not installed.
    """

    def __init__(self) -> None:
        self._bin = _postgres_bin()
        self._as_user = _unprivileged()
        # Not below a test's folder: those are for root's eyes, and PostgreSQL refuses to be root.
        self.folder = Path(tempfile.mkdtemp(prefix="momentary-postgresql-"))
        if self._as_user:
            shutil.chown(self.folder, USER, USER)
        self.port = free_port()
        self._run(
            "initdb", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-U", USER
        )
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, port: int | None = None) -> str:
        """Where to connect to; at another port, such as a proxy's."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{port or self.port}/postgres"

    def start(self) -> None:
        """Start it, on the same port and data as before."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c logging_collector=off"
        log = str(self.folder / "server.log")
        self._run("pg_ctl", "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" in order, "immediate" as if the machine lost power."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def close(self) -> None:
        """Stop it and delete its folder."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._bin / program), "-D", str(self.folder), *arguments]
        # A file, not a pipe: the server that pg_ctl leaves behind would keep a pipe open.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                command, cwd="/", stdout=said, stderr=said, stdin=subprocess.DEVNULL, check=False
            )
            if done.returncode:
                said.seek(0)
                raise subprocess.CalledProcessError(done.returncode, command, said.read())


class RedisServer:
    """A Redis that keeps nothing on the disk.

    Raises:
        MissingServerError: If Redis is not installed.
    """

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise MissingServerError("redis-server is not installed: apt-get install redis-server")
        self.port = free_port()
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._folder = tempfile.TemporaryDirectory(prefix="momentary-redis-")
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, on the same port as before."""
        self.process = subprocess.Popen(
            self._command, cwd=self._folder.name, stdout=subprocess.DEVNULL
        )
        _wait(lambda: self.say("PING").startswith(b"+PONG"), self.process)

    def say(self, *words: str) -> bytes:
        """Send one command; the first bytes of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)
            link.sendall(b"*%d\r\n%s" % (len(words), parts))
            return link.recv(65_536)

    def stop(self) -> None:
        """End it at once; what it held is gone."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(timeout=10)

    def close(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        self._folder.cleanup()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _postgres_bin() -> Path:
    found = [Path(each).parent for each in [shutil.which("initdb")] if each]
    # Debian keeps the servers' programs out of the path, one folder a version.
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not found:
        raise MissingServerError("PostgreSQL is not installed: apt-get install postgresql")
    return found[0]


def _unprivileged() -> Sequence[str]:
    """What a command must begin with, because PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return ()
    try:
        pwd.getpwnam(USER)
    except KeyError:
        raise MissingServerError(
            f"there is no user {USER!r} to run PostgreSQL: apt-get install postgresql"
        ) from None
    return ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            if ready():
                return
        if time.monotonic() > end_s or process.poll() is not None:
            raise RuntimeError(f"the server did not start (code {process.poll()})")
        time.sleep(0.02)
