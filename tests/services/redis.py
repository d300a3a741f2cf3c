"""A real Redis on this machine: 127.0.0.1, a password, nothing kept on disk unless asked for."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.services.processes import HOST, Process, Service, ServiceMissingError, free_port


class RedisServer(Service):
    """
    The server, for a `with` block or between `start` and `stop`. `host`, `port` and `password` reach it.

    `arguments` are further options of `redis-server`, as on its command line. With `certificate`, a PEM file with key
    and certificate, it speaks TLS only. `cluster` makes it a cluster of one that serves all slots.
    """

    host = HOST

    def __init__(
        self, arguments: Sequence[str] = (), *, certificate: Path | None = None, cluster: bool = False
    ) -> None:
        super().__init__()
        self.password = secrets.token_hex(8)
        self.certificate, self.cluster = certificate, cluster
        self._arguments = list(arguments)

    def start(self) -> None:
        """Start a new, empty server. Raises `ServiceMissingError` where it is not installed."""
        assert self._process is None, "it runs already"
        program = shutil.which("redis-server")
        if program is None:
            raise ServiceMissingError("redis-server not found: run python scripts/services.py")
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._process = Process([program, *self._options(), *self._arguments], self._folder / "redis.log")
        try:
            self._run()
            if self.cluster:
                with self.client() as client:
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                    self._process.wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok")
        except BaseException:
            self.stop()
            raise

    def _options(self) -> list[str]:
        listen = {"port": "0", "tls-port": str(self.port)} if self.certificate else {"port": str(self.port)}
        options = {
            "bind": HOST,
            **listen,
            "dir": str(self._folder),
            "requirepass": self.password,
            "masterauth": self.password,
            "save": "",
            "appendonly": "no",
            "enable-debug-command": "local",
        }
        if self.certificate:
            options |= dict.fromkeys(("tls-cert-file", "tls-key-file", "tls-ca-cert-file"), str(self.certificate))
            options["tls-auth-clients"] = "no"
        if self.cluster:
            # By default its bus listens 10,000 ports higher, among those that outgoing connections take.
            options |= {"cluster-enabled": "yes", "cluster-port": str(free_port())}
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _run(self) -> None:
        self._process.start()
        self._process.wait_until(self._answers)

    def _answers(self) -> bool:
        import redis

        try:
            with self.client() as client:
                return client.ping()
        except redis.RedisError:
            return False

    def restart(self) -> None:
        """Start it again after `kill`, at the same port; what it did not write down is lost."""
        self._run()

    def freeze(self) -> None:
        """Let it answer nothing, with its connections open, until `thaw`."""
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()

    def client(self) -> Any:
        """Return a `redis.Redis`."""
        import redis

        tls = {"ssl": True, "ssl_ca_certs": str(self.certificate)} if self.certificate else {}
        return redis.Redis(HOST, self.port, password=self.password, socket_timeout=60, **tls)

    def url(self, db: int = 0) -> str:
        """Return its address with the password, as Celery takes it."""
        return f"{'rediss' if self.certificate else 'redis'}://:{self.password}@{HOST}:{self.port}/{db}"

    def airflow_connection(self, **extra: Any) -> dict[str, Any]:
        """Return the fields of an Airflow connection; `extra` as given, with what TLS needs."""
        tls = {"ssl": True, "ssl_ca_certs": str(self.certificate)} if self.certificate else {}
        fields = {"conn_type": "redis", "host": HOST, "port": self.port, "password": self.password}
        return fields | {"extra": tls | extra}
