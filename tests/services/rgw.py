"""A real S3 store on this machine: Ceph's RADOS Gateway, over a monitor and a storage daemon that writes to memory."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.services.processes import HOST, Process, Service, ServiceMissingError, free_port, listens
from tests.services.rgw_log import AccessLog, Request

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool")
SLOTS = 1024
_MARK = "/.mark-"

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v1:{host}:{monitor}
monmap = {folder}/monmap
public addr = {host}
cluster addr = {host}
auth cluster required = none
auth service required = none
auth client required = none
ms bind msgr2 = false
run dir = {folder}
crash dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
# The daemon would send commands for these, and die of the refusal that `_run` describes.
osd crush update on start = false
osd class update on start = false
mon allow pool size one = true
# The pools are made one after the other, each in a few rounds of the monitor.
paxos propose interval = 0.05
rgw data = {folder}/rgw
# Without nodelay every answer with a body waits 40 ms. An upload that does not go on holds its slot for long.
rgw frontends = beast endpoint={host}:{gateway} tcp_nodelay=1 request_timeout_ms=600000
rgw enable lc threads = false
rgw run sync thread = false
debug rgw = 1
log max recent = 10
"""


class RadosGateway(Service):
    """The store. `url`, `access_key` and `secret_key` reach it; the stranger's keys are valid, but own nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._processes: list[Process] = []
        self._keeper: tuple[str, str] = ("", "")
        self._held = self._frozen = False

    def start(self) -> None:
        """Start a new, empty store. Raises `ServiceMissingError` where its programs are not installed."""
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise ServiceMissingError(f"{', '.join(missing)} not found: run python scripts/services.py")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _end(self) -> None:
        # The gateway, then what it writes to.
        while self._processes:
            self._processes.pop().stop()

    def _start(self) -> None:
        # The path of a socket inside it must not be longer than 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="rgw-"))
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}"
        self._start_monitor()
        self._start_storage()
        self.access_key, self.secret_key = self._make_user("owner")
        self.stranger_access_key, self.stranger_secret_key = self._make_user("stranger")
        self._keeper = self._make_user("keeper")
        self._gateway = self._made("radosgw", "-n", "client.rgw.a", "-f")
        self._log = AccessLog(self._folder / "client.rgw.a.log")
        self.start_gateway()
        self._keepers_client().create_bucket(Bucket="keeper")
        self.forget_requests()

    def _start_monitor(self) -> None:
        fsid, port = str(uuid.uuid4()), free_port()
        for name in ("mon", "osd", "rgw"):
            (self._folder / name).mkdir()
        (self._folder / "keyring").touch()
        values = {"fsid": fsid, "folder": self._folder, "host": HOST, "monitor": port, "gateway": self._port}
        (self._folder / "ceph.conf").write_text(_CONFIGURATION.format(**values))
        monmap = str(self._folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:{HOST}:{port}]", monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        monitor = self._made("ceph-mon", "-i", "a", "-f")
        monitor.start()
        monitor.wait_until(lambda: listens(port))

    def _start_storage(self) -> None:
        identity = str(uuid.uuid4())
        storage = self._made("ceph-osd", "-i", "0", "-f")
        self._run("ceph", "osd", "new", identity)
        self._run("ceph", "osd", "crush", "add", "osd.0", "1", "host=a", "root=default")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        storage.start()
        storage.wait_until(lambda: json.loads(self._run("ceph", "osd", "stat", "-f", "json"))["num_up_osds"])

    def _make_user(self, name: str) -> tuple[str, str]:
        access, secret = f"{name}-{secrets.token_hex(8)}", secrets.token_hex(20)
        keys = ("--access-key", access, "--secret-key", secret)
        self._run("radosgw-admin", "user", "create", "--uid", name, "--display-name", name, *keys)
        return access, secret

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, "-c", str(self._folder / "ceph.conf"), *arguments]

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("CEPH_")}

    def _made(self, program: str, *arguments: str) -> Process:
        log = self._folder / f"{program}.out"
        process = Process(self._command(program, *arguments), log, self._environment())
        self._processes.append(process)
        return process

    def _run(self, program: str, *arguments: str) -> str:
        # A client of Ceph now and then names its cluster before it has read which one it is, and is refused.
        for attempt in range(5):
            time.sleep(0.1 * attempt)
            done = subprocess.run(
                self._command(program, *arguments),
                check=False,
                capture_output=True,
                text=True,
                timeout=600,
                env=self._environment(),
            )
            if done.returncode == 0:
                return done.stdout
        raise RuntimeError(f"{program} {' '.join(arguments[:3])} failed:\n{done.stdout}{done.stderr}")

    def client(self, **overrides: Any) -> Any:
        """Return a boto3 client; the arguments replace those of `boto3.client`, a `config` is merged."""
        config = Config(s3={"addressing_style": "path"}).merge(overrides.pop("config", Config()))
        arguments = {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "config": config,
        }
        return boto3.client("s3", **(arguments | overrides))

    def _keepers_client(self) -> Any:
        access, secret = self._keeper
        return self.client(aws_access_key_id=access, aws_secret_access_key=secret)

    def airflow_connection(self, **overrides: Any) -> dict[str, Any]:
        """Return the fields of an Airflow connection; the arguments replace some, an `extra` is merged."""
        extra = {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "config_kwargs": {"s3": {"addressing_style": "path"}},
            **overrides.pop("extra", {}),
        }
        return {"conn_type": "aws", "login": self.access_key, "password": self.secret_key, "extra": extra, **overrides}

    def requests(self) -> list[Request]:
        """Return what the gateway was asked since the last `forget_requests()`, in the order of its answers."""
        self._read_log()
        return [request for request in self._log.requests if not request.path.startswith((_MARK, "/keeper/"))]

    def forget_requests(self) -> None:
        """Count from here."""
        self._read_log()
        self._log.requests.clear()

    def _read_log(self) -> None:
        """
        Read until a request that is sent now is in the log, and until all that began before it have ended.

        The gateway writes the line of a request after its answer, from whichever thread served it.
        """
        self._log.read()
        if self._frozen or not self._gateway.running:
            return
        mark = f"{_MARK}{secrets.token_hex(8)}"
        _ask(self._port, mark)
        marked = self._log.wait(lambda: any(request.path == mark for request in reversed(self._log.requests)), 10)
        assert marked, "The gateway does not write its log."
        # One that really hangs is not waited for.
        self._log.wait(lambda: len(self._log.under_way) <= self._held, 1)

    @contextmanager
    def busy(self) -> Iterator[str]:
        """
        Let the gateway answer 503 SlowDown to every request; its url is given, which stays the same.

        It may serve one request at a time, and an upload that does not go on is that one.
        """
        address = {"Bucket": "keeper", "Key": "unfinished"}
        upload = self._keepers_client().generate_presigned_url("put_object", Params=address)
        head = f"PUT {upload.removeprefix(self.url)} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\nContent-Length: 9\r\n\r\n"
        self._read_log()
        with socket.create_connection((HOST, self._port)) as held:
            held.sendall(head.encode())
            self._held = self._log.wait(lambda: self._log.under_way, 60)
            self._set("rgw_max_concurrent_requests", 1)
            try:
                self._gateway.wait_until(lambda: _ask(self._port, f"{_MARK}busy") == 503)
                yield self.url
            finally:
                self._set("rgw_max_concurrent_requests", SLOTS)
                self._held = False

    def _set(self, option: str, value: int) -> None:
        self._run("ceph", "daemon", str(self._folder / "client.rgw.a.asok"), "config", "set", option, str(value))

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Let every request hang: connections are accepted by the system, and nobody reads them."""
        self._gateway.freeze()
        self._frozen = True
        try:
            yield
        finally:
            self._gateway.thaw()
            self._frozen = False

    def stop_gateway(self) -> None:
        """Let connections be refused. What is stored stays."""
        self._gateway.stop()
        self._log.read()
        self._log.under_way.clear()

    def start_gateway(self) -> None:
        """Start the gateway, at the port it had."""
        self._gateway.start()
        self._gateway.wait_until(lambda: listens(self._port) and _ask(self._port, f"{_MARK}start") < 500)

    def restart_gateway(self) -> None:
        self.stop_gateway()
        self.start_gateway()


def _ask(port: int, path: str) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
