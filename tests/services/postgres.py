"""A real PostgreSQL on this machine: 127.0.0.1, a password, a cluster of its own in a temporary folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.processes import HOST, Process, Service, ServiceMissingError, free_port

DEBIANS = Path("/usr/lib/postgresql")
USER = "airflow"


class PostgresServer(Service):
    """
    The server, for a `with` block or between `start` and `stop`. `host`, `port`, `user` and `password` reach it.

    `settings` are those of `postgresql.conf`. `certificate` is a PEM file with key and certificate, for TLS.
    """

    host, user = HOST, USER

    def __init__(self, settings: Mapping[str, str] | None = None, *, certificate: Path | None = None) -> None:
        super().__init__()
        self.password = secrets.token_hex(8)
        self.certificate = certificate
        self._settings = dict(settings or {})

    def start(self) -> None:
        """Make a new cluster and start it. Raises `ServiceMissingError` where it is not installed."""
        assert self._process is None, "it runs already"
        programs = _programs()
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        try:
            self._make_cluster(programs)
            command = [*_as_its_user(), str(programs / "postgres"), "-D", str(self._folder / "data")]
            self._process = Process([*command, *self._options()], self._folder / "postgres.log")
            self._run()
        except BaseException:
            self.stop()
            raise

    def _make_cluster(self, programs: Path) -> None:
        password = self._folder / "password"
        password.write_text(self.password)
        if self.certificate:
            shutil.copyfile(self.certificate, self._folder / "server.pem")
            (self._folder / "server.pem").chmod(0o600)
        if os.getuid() == 0:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, "postgres", "postgres")
        how = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        command = [str(programs / "initdb"), "-D", str(self._folder / "data"), "-U", USER, f"--pwfile={password}", *how]
        done = subprocess.run([*_as_its_user(), *command], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stdout}{done.stderr}")

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "32MB",
            **self._settings,
        }
        if self.certificate:
            pem = str(self._folder / "server.pem")
            settings |= {"ssl": "on", "ssl_cert_file": pem, "ssl_key_file": pem}
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _run(self) -> None:
        self._process.start()
        self._process.wait_until(self._answers)

    def _answers(self) -> bool:
        import psycopg

        try:
            self.client().close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self) -> None:
        if self._process is not None and self._process.running:
            # Its fast way to end: it does not wait for those that are connected.
            os.kill(self._process.pid, signal.SIGINT)
        super()._end()

    def restart(self) -> None:
        """Start it again after `kill`, at the same port, as soon as the processes of its last life have ended."""
        for _ in range(20):
            try:
                return self._run()
            except RuntimeError:
                self._process.stop()
        return self._run()

    def client(self, database: str = "postgres", **options: Any) -> Any:
        """Return a `psycopg.Connection` that commits each statement."""
        import psycopg

        where = {"host": HOST, "port": self.port, "user": USER, "password": self.password, "dbname": database}
        return psycopg.connect(**where, autocommit=True, connect_timeout=5, **options)

    def make_database(self, name: str) -> None:
        """Make an empty database."""
        with self.client() as client:
            client.execute(f'CREATE DATABASE "{name}"')

    def url(self, database: str = "postgres", driver: str = "psycopg2") -> str:
        """Return its address with the password, as SQLAlchemy takes it."""
        return f"postgresql+{driver}://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    def airflow_connection(self, database: str = "postgres", **extra: Any) -> dict[str, Any]:
        """Return the fields of an Airflow connection."""
        fields = {"conn_type": "postgres", "host": HOST, "port": self.port, "login": USER, "password": self.password}
        return fields | {"schema": database, "extra": extra}


def _programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs, which Debian keeps out of the PATH."""
    found = sorted(DEBIANS.glob("*/bin/postgres"), key=lambda program: int(program.parts[-3]))
    program = found[-1] if found else shutil.which("postgres")
    if program is None:
        raise ServiceMissingError("postgres not found: run python scripts/services.py")
    return Path(program).parent


def _as_its_user() -> list[str]:
    """Return what a command of root begins with, because PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise ServiceMissingError("no user postgres: run python scripts/services.py") from None
    # A change of the user drops the leash of `Process`, so it is put on once more.
    user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return ["setpriv", *user, "--pdeathsig", "KILL", "--"]
