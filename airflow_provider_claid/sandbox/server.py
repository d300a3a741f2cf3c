"""Runs a sandbox in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import uvicorn

from airflow_provider_claid.sandbox.app import create_app
from airflow_provider_claid.sandbox.certificates import Certificates, certificates_in, names_of
from airflow_provider_claid.sandbox.faults import Fault
from airflow_provider_claid.sandbox.report import NEWEST
from airflow_provider_claid.sandbox.settings import DEFAULT_STORAGE, Settings, StorageTarget
from airflow_provider_claid.sandbox.state import State
from airflow_provider_claid.sandbox.wire import protocol_of

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


class _Server(uvicorn.Server):
    """Uvicorn's server, which tells when it is up and ends every wait before it shuts down."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state
        self.up = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._state.stopping.set()
        await super().shutdown(sockets)


class SandboxServer:
    """
    A sandbox on a free port of this machine, for a `with` block or between `start()` and `stop()`.

    `settings` may be given as a `Settings` or by its fields: `SandboxServer(latency=0, per_second=None)`. The methods
    below do what the control endpoints do, without a request. An address that is taken is an OSError of `start`.
    """

    def __init__(self, settings: Settings | None = None, **fields: Any) -> None:
        if settings is not None and fields:
            raise TypeError("give settings or their fields, not both")
        self.settings = settings or Settings(**fields)
        self.port = self.settings.port
        self._thread: threading.Thread | None = None
        self._certificates: Certificates | None = None

    @property
    def url(self) -> str:
        """The address to send requests to, without a slash at its end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.settings.https else 'http'}://{host}:{self.port}"

    @property
    def authority(self) -> Path:
        """The file of the certificate authority that clients of a sandbox with `https` must trust, while it runs."""
        if self._certificates is None:
            raise RuntimeError("the sandbox does not serve https, or is not running")
        return self._certificates.authority

    def start(self) -> Self:
        """Start serving; return once connections are accepted."""
        self._scratch = contextlib.ExitStack()
        try:
            self._certificates = self._certified() if self.settings.https else None
            listener = self._listen()
        except BaseException:
            self._scratch.close()
            raise
        self.state = State(self._with_default_storage())
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            create_app(self.state),
            loop="asyncio",
            http=protocol_of(self.state.wire),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=self.settings.keep_alive,  # type: ignore[arg-type]
            timeout_graceful_shutdown=2,
            ssl_certfile=self._certificates.server if self._certificates else None,
        )
        self._server = _Server(config, self.state)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="claid-sandbox", daemon=True
        )
        self._thread.start()
        if not self._server.up.wait(_START_SECONDS):
            raise RuntimeError(f"the sandbox did not come up in {_START_SECONDS:.0f} s")
        return self

    def stop(self) -> None:
        """Stop serving; requests that are still waiting are answered at once. Does nothing if it is not running."""
        if self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        self._thread = None
        self._certificates = None
        self._scratch.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fault(self, on: str, kind: str, **options: Any) -> None:
        """Add a fault rule, see `Fault`."""
        rule = Fault.model_validate({"on": on, "kind": kind, **options})
        self._in_loop(lambda: self.state.faults.add(rule))

    def clear_faults(self) -> None:
        """Drop all fault rules."""
        self._in_loop(self.state.faults.clear)

    def report(self, newest: int = NEWEST) -> dict[str, Any]:
        """Return what `GET /_sandbox/report` tells, with the `newest` requests; it serves nothing meanwhile."""
        return self._in_loop(lambda: self.state.describe(newest))

    def reset(self) -> None:
        """Forget counts, windows, faults and pictures; settings and storages stay."""
        self._in_loop(self.state.reset)

    def change(self, **changes: Any) -> None:
        """Change settings, see `settings.LIVE`."""
        self._in_loop(lambda: self.state.change(changes))

    def _in_loop(self, work: Callable[[], _Result]) -> _Result:
        """Run `work` between two steps of the server, as nothing else may touch its state."""

        async def run() -> _Result:
            return work()

        if self._thread is None or self._server.loop is None:
            raise RuntimeError("the sandbox is not running")
        return asyncio.run_coroutine_threadsafe(run(), self._server.loop).result(_STOP_SECONDS)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
        # Asyncio turns Nagle's algorithm off (40 ms an answer) only where the protocol is named.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.settings.host, self.settings.port))
        except OSError:
            listener.close()
            raise
        return listener

    def _with_default_storage(self) -> Settings:
        if self.settings.storages:
            return self.settings
        folder = self.settings.folder
        if folder is None:
            folder = self._temporary("storage")
        target = StorageTarget(name=DEFAULT_STORAGE, folder=folder.resolve())
        return self.settings.model_copy(update={"storages": (target,)})

    def _certified(self) -> Certificates:
        folder = self.settings.certificates or self._temporary("certificates")
        names = names_of(self.settings.host, self.settings.names)
        return certificates_in(folder.expanduser().resolve(), names)

    def _temporary(self, what: str) -> Path:
        made = tempfile.TemporaryDirectory(prefix=f"claid-sandbox-{what}-", ignore_cleanup_errors=True)
        return Path(self._scratch.enter_context(made))
