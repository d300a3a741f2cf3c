"""The storages connected to the sandbox's accounts: what the API says about them, and which one an output means."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_claid.sandbox.answers import error, invalid, invalid_fields
from airflow_provider_claid.sandbox.settings import StorageTarget

StorageType = Literal["web_folder", "s3", "gcs"]
STORAGE_TYPES: tuple[StorageType, ...] = ("web_folder", "s3", "gcs")
_Text = Annotated[str, Field(min_length=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Credentials(_Closed):
    """What Claid would sign its writes with; never told in full again."""

    access_key: _Text
    secret_access_key: Annotated[str, Field(min_length=1, repr=False)]


class BucketParameters(_Closed):
    """`parameters` of an s3 or gcs storage; `path` is put in front of each output folder."""

    bucket: _Text
    path: str = ""
    credentials: Credentials


class WebFolderParameters(_Closed):
    """`parameters` of a web_folder, which can only be read from."""

    base_url: _Text


class NewStorage(_Closed):
    """The body that connects a storage."""

    name: Annotated[str, Field(min_length=1, max_length=50)]
    type: StorageType
    parameters: dict[str, Any]


class StorageChange(_Closed):
    """The body that changes a storage; what is left out stays as it is."""

    name: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    type: StorageType | None = None
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True)
class Storage:
    """A connected storage; those given at the start have no credentials, and write to `folder` if they have one."""

    id: int
    name: str
    type: StorageType
    created_at: str
    parameters: dict[str, Any]
    folder: Path | None = None

    def describe(self, *, detailed: bool) -> dict[str, Any]:
        """Return the storage as the API shows it; of the credentials only the access key, and only if `detailed`."""
        parameters = {key: value for key, value in self.parameters.items() if key != "credentials"}
        if detailed and self.type != "web_folder":
            access_key = self.parameters.get("credentials", {}).get("access_key", "")
            parameters["credentials"] = {"access_key": access_key}
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "parameters": parameters,
            "created_at": self.created_at,
        }


class Storages:
    """All storages of a sandbox, by id; its accounts share them."""

    def __init__(self, targets: tuple[StorageTarget, ...]) -> None:
        self._storages: dict[int, Storage] = {}
        self._last_id = 0
        for target in targets:
            parameters = {"bucket": target.bucket or target.name, "path": target.path}
            self._keep(self._next_id(), target.name, target.type, parameters, target.folder)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _keep(
        self, number: int, name: str, kind: StorageType, parameters: dict[str, Any], folder: Path | None = None
    ) -> Storage:
        before = self._storages.get(number)
        created = before.created_at if before else datetime.now(UTC).isoformat()
        self._storages[number] = Storage(number, name, kind, created, parameters, folder)
        return self._storages[number]

    def all(self) -> list[Storage]:
        """Return the storages in the order they were connected."""
        return list(self._storages.values())

    def get(self, number: int) -> Storage:
        """Return a storage, or raise the 404."""
        if number not in self._storages:
            raise error(404, "Storage not found.", kind="storage")
        return self._storages[number]

    def connect(self, new: NewStorage) -> Storage:
        """Connect a storage, or raise the 422."""
        self._require_free(new.name)
        return self._keep(self._next_id(), new.name, new.type, _checked(new.type, new.parameters))

    def change(self, number: int, change: StorageChange) -> Storage:
        """Change a storage, or raise the 404 or 422; parameters are merged with those it has, if the type stays."""
        old = self.get(number)
        name, kind = change.name or old.name, change.type or old.type
        if name != old.name:
            self._require_free(name)
        if change.parameters is None and kind == old.type:
            return self._keep(number, name, kind, old.parameters, old.folder)
        kept = old.parameters if kind == old.type else {}
        return self._keep(number, name, kind, _checked(kind, {**kept, **(change.parameters or {})}))

    def disconnect(self, number: int) -> Storage:
        """Forget a storage and return it, or raise the 404; what it holds stays."""
        storage = self.get(number)
        del self._storages[number]
        return storage

    def for_output(self, output: str) -> tuple[Storage, str]:
        """Return the storage that `storage://name/folder/` means and the folder, or raise the 400."""
        name, _, folder = output.removeprefix("storage://").partition("/")
        found = next((storage for storage in self._storages.values() if storage.name == name), None)
        if found is None:
            raise error(400, f"Storage {name} is not connected.", kind="storage")
        if found.type == "web_folder":
            raise error(400, f"Storage {name} is a web folder and cannot be written to.", kind="storage")
        if ".." in folder.split("/") and found.folder:
            raise error(400, f"Folder {folder} is outside of storage {name}.", kind="storage")
        return found, folder

    def _require_free(self, name: str) -> None:
        if any(storage.name == name for storage in self._storages.values()):
            raise invalid_fields({"name": ["A storage with this name exists."]})


def _checked(kind: StorageType, parameters: dict[str, Any]) -> dict[str, Any]:
    model = WebFolderParameters if kind == "web_folder" else BucketParameters
    try:
        return model.model_validate(parameters).model_dump()
    except ValidationError as refusal:
        raise invalid(refusal.errors(), under=("parameters",)) from None
