"""Microsoft's own emulator of Azure Blob Storage, on this machine and in memory."""

from __future__ import annotations

import base64
import http.client
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.services.processes import HOST, REPOSITORY, Process, Service, ServiceMissingError, free_port

MAIN = REPOSITORY / ".services" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


class Azurite(Service):
    """The store. `url`, `account` and `key` reach it."""

    def start(self) -> None:
        """Start a new, empty store. Raises `ServiceMissingError` where it is not installed."""
        program = [shutil.which("node"), str(MAIN)] if MAIN.exists() else [shutil.which("azurite-blob")]
        if None in program:
            raise ServiceMissingError("node or azurite not found: run python scripts/services.py")
        self.account, self.key = "pictures", _new_key()
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}/{self.account}"
        self._folder = Path(tempfile.mkdtemp(prefix="azurite-"))
        where = ["--blobHost", HOST, "--blobPort", str(self._port)]
        how = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        environment = os.environ | {"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"}
        self._process = Process([*program, *where, *how], self._folder / "azurite.log", environment)
        try:
            self._process.start()
            self._process.wait_until(self._answers)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
        try:
            connection.request("GET", f"/{self.account}?comp=list")
            return connection.getresponse().status < 500
        except OSError:
            return False
        finally:
            connection.close()

    def connection_string(self, key: str | None = None) -> str:
        """Return Azure's own form of an address with credentials."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={key or self.key};"
            f"BlobEndpoint={self.url};"
        )

    def client(self, key: str | None = None) -> Any:
        """Return a BlobServiceClient of azure-storage-blob."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient.from_connection_string(self.connection_string(key))

    def make_container(self, name: str) -> Any:
        """Make a container and return its ContainerClient."""
        return self.client().create_container(name)

    def airflow_connection(self, key: str | None = None) -> dict[str, Any]:
        """
        Return the fields of an Airflow connection.

        Only the connection string can say that the emulator speaks plain http: all else is taken for https.
        """
        return {"conn_type": "wasb", "login": self.account, "extra": {"connection_string": self.connection_string(key)}}

    def wrong_key_connection(self) -> dict[str, Any]:
        """Return the same with a key that is well-formed, but not the account's."""
        return self.airflow_connection(_new_key())


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode()
