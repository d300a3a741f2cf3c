"""`python -m airflow_provider_claid.sandbox`: a Claid on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from airflow_provider_claid.sandbox.settings import Key, Settings, StorageTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_claid.sandbox.server import SandboxServer

_EXTRA = {"fastapi", "starlette", "uvicorn", "h11", "PIL"}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_OPTIONS = {"names": "name", "keys": "key", "storages": "storage"}


def _checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Turn what `read` objects to into argparse's own kind of message."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except ValidationError as refusal:
            raise argparse.ArgumentTypeError(_reasons(refusal)) from None
        except ValueError as refusal:
            raise argparse.ArgumentTypeError(str(refusal)) from None

    return convert


def _reasons(refusal: ValidationError) -> str:
    return "; ".join(one["msg"].removeprefix("Value error, ") for one in refusal.errors())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_claid.sandbox",
        description="Serve Claid's text-to-image API on this machine, with drawn pictures and no real key.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--host", help="address to listen on (127.0.0.1: this machine only)")
    add("--port", type=int, default=8177, help="port to listen on, 0 for a free one (8177)")
    add(
        "--key",
        action="append",
        dest="keys",
        type=_checked(Key.parse),
        metavar="KEY[:SCOPE,SCOPE[:ACCOUNT]]",
        help="an accepted API key; may be repeated (sandbox-key, with all scopes)",
    )
    add(
        "--storage",
        action="append",
        dest="storages",
        type=_checked(StorageTarget.parse),
        metavar="NAME=DIR|NAME=s3://BUCKET/PREFIX",
        help="a connected storage; may be repeated (my-storage, in --folder)",
    )
    add("--folder", help="where my-storage writes (a temporary folder that goes away with the sandbox)")
    add("--s3-endpoint", metavar="URL", help="where buckets are, if not at AWS")
    add("--window", choices=("sliding", "fixed", "anchored"), help="how the rate is counted (sliding)")
    add("--per-second", type=int, metavar="N", help="requests per second, 0 for no limit (4)")
    add("--per-minute", type=int, metavar="N", help="requests per minute, 0 for no limit (120)")
    add("--count-refused", action="store_true", help="let refused requests count too")
    add("--latency", metavar="SECONDS|LOW-HIGH", help="how long a generation takes (1.0)")
    add("--picture-hours", type=float, metavar="HOURS", help="how long temporary addresses live (24)")
    add("--credits", type=int, metavar="N", help="credits of each account (no end of them)")
    add("--plain", action="store_true", help="draw no scenes behind the prompts: a fifth of the work")
    add("--keep-alive", type=float, metavar="SECONDS", help="how long idle connections are kept (5)")
    add("--https", action="store_true", help="serve TLS, with a certificate and an authority of its own")
    add(
        "--name",
        action="append",
        dest="names",
        metavar="NAME",
        help="a host name or address that clients use, as host.docker.internal; may be repeated; needs --https",
    )
    add("--certificates", metavar="FOLDER", help="where ca.pem goes, for clients to trust; needs --https (temporary)")
    add("--seed", type=int, help="repeat latencies, fault probabilities and drawings")
    return parser


def _address_of(server: SandboxServer) -> str:
    """Return the address without its port, by the first name that clients were said to use."""
    if not server.settings.names:
        return server.url.rpartition(":")[0]
    name = server.settings.names[0]
    return f"https://[{name}]" if ":" in name else f"https://{name}"


def connection_of(server: SandboxServer) -> str:
    """Return the Airflow connection that points at `server`, as JSON."""
    connection: dict[str, Any] = {
        "conn_type": "claid",
        "host": _address_of(server),
        "port": server.port,
        "password": server.settings.keys[0].token,
    }
    # The API can only speak of buckets, so a storage that is a folder here has to be told to Airflow directly.
    folders = {target.name: f"{target.folder.as_uri()}/" for target in server.state.settings.storages if target.folder}
    if folders:
        connection["extra"] = {"storages": folders}
    return json.dumps(connection)


def _greeting(server: SandboxServer) -> str:
    lines = [
        f"The Claid sandbox is ready at {server.url} (Ctrl-C stops it).",
        "",
        "Point Airflow at it:",
        f"  export AIRFLOW_CONN_CLAID_DEFAULT='{connection_of(server)}'",
    ]
    if server.settings.https:
        # In a container it is where that has the file.
        lines.append(f"  export SSL_CERT_FILE={shlex.quote(str(server.authority))}")
    lines.append("")
    for target in server.state.settings.storages:
        place = target.folder or f"{target.type}://{target.bucket}/{target.path}"
        lines.append(f"Storage storage://{target.name}/ writes to {place}")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sandbox until SIGINT or SIGTERM; return the exit code."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    try:
        settings = Settings.model_validate(given)
    except ValidationError as refusal:
        field = str(refusal.errors()[0]["loc"][0])
        option = _OPTIONS.get(field, field.replace("_", "-"))
        parser.error(f"--{option}: {_reasons(refusal)}")
    try:
        from airflow_provider_claid.sandbox.server import SandboxServer
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(
            f"The sandbox needs {missing.name}: pip install 'airflow-provider-claid[sandbox]' brings all it needs.\n"
        )
        return 1
    if settings.host not in _LOOPBACK:
        sys.stderr.write(f"Warning: on {settings.host} anybody in your network can reach the sandbox and control it.\n")
    return _serve(SandboxServer(settings))


def _serve(server: SandboxServer) -> int:
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        server.start()
    except ModuleNotFoundError as missing:
        if missing.name != "cryptography":
            raise
        sys.stderr.write("--https needs the package cryptography, which Airflow brings: pip install cryptography\n")
        return 1
    except OSError as refusal:
        if refusal.filename:
            sys.stderr.write(f"--certificates: {refusal.filename}: {refusal.strerror}\n")
            return 1
        sys.stderr.write(f"Cannot listen on {server.settings.host}:{server.settings.port}: {refusal.strerror}\n")
        return 1
    sys.stdout.write(_greeting(server))
    sys.stdout.flush()
    over.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
