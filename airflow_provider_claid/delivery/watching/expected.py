"""
Which pictures are waited for: read from a task's XCom or from a folder and a count, checked before anything is asked.

Pure, and imports no HTTP client: a Dag file that uses the sensor loads this module at every parse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.paths import as_uri, is_path

Verify = Literal["exists", "header", "full"]
VERIFY: tuple[Verify, ...] = ("exists", "header", "full")

STORES = ("s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "adl", "file")
"""Schemes of stores that can be listed; `storage` stands for one of them, `https` is Claid's temporary address."""

WEB = ("https", "http")
_FOLDER_FORM = "the URI of a folder with a final slash, such as s3://bucket/folder/ or storage://name/folder/"
_IMAGES_FORM = "picture URIs, or the operator's claid_result"
_IMAGES_FIX = "Pass the operator's output, images=generate.output; a Jinja text would need native rendering."


@dataclass(frozen=True)
class Address:
    """Where a picture or folder is: `bucket` is "" on this machine, `key` has no slash before it."""

    scheme: str
    bucket: str
    key: str
    conn_id: str | None = None

    @property
    def uri(self) -> str:
        """The URI, without the connection id: S3Hook would read it as a part of the bucket."""
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def store(self) -> tuple[str, str, str | None]:
        """What it takes to open the bucket: scheme, name and connection."""
        return self.scheme, self.bucket, self.conn_id


@dataclass(frozen=True)
class Promise:
    """A picture that is waited for and what was said of it: pixels, bytes, SHA-256; None where nothing was."""

    uri: str
    width: int | None = None
    height: int | None = None
    mime: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    filtered: bool | None = None
    expires_at: str | None = None
    storage_conn_id: str | None = None

    @property
    def is_of_claid(self) -> bool:
        """True for what Claid's answer said; of what the operator copied there is a checksum, of a bare URI nothing."""
        return self.sha256 is None and (self.width, self.height, self.mime) != (None, None, None)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a trigger: `read_images` reads it again."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Wanted:
    """What is waited for: these pictures, or `count` of them anywhere under `folder`; none last modified `since`."""

    images: tuple[Promise, ...] = ()
    folder: str | None = None
    count: int = 0
    since: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the arguments of `wanted`."""
        return {
            "images": [promise.to_json() for promise in self.images] or None,
            "folder": self.folder,
            "expected_count": self.count or None,
            "since": self.since.isoformat() if self.since else None,
        }


def wanted(images: Any, folder: Any, expected_count: Any, since: Any) -> Wanted:
    """Check the sensor's arguments; each error is a `ClaidInputError` that names one."""
    if (images is None) == (folder is None):
        came = "neither images nor folder" if images is None else "a value together with folder"
        fix = "Give pictures by images, or a folder with expected_count."
        raise ClaidInputError("images", came, "one of images and folder", fix)
    if images is not None:
        if expected_count is not None:
            fix = "Leave it out: as many pictures are waited for as images names."
            raise ClaidInputError("expected_count", f"{expected_count!r} together with images", "nothing", fix)
        return Wanted(images=read_images(images), since=read_since(since))
    return Wanted(folder=check_folder(folder), count=_count(expected_count), since=read_since(since))


def read_images(value: Any) -> tuple[Promise, ...]:
    """
    Read the operator's XCom: URIs, a `claid_result`, or what mapped tasks make of either, lists of them.

    Path objects count as their URIs. A picture named twice counts once, with all that was said of it. Raises
    `ClaidInputError`.
    """
    promises: dict[str, Promise] = {}
    for promise in _promises(value, None):
        said = {name: fact for name, fact in asdict(promise).items() if fact is not None}
        promises[promise.uri] = replace(promises.get(promise.uri, promise), **said)
    if not promises:
        raise ClaidInputError("images", f"{value!r:.40}, no picture at all", _IMAGES_FORM, _IMAGES_FIX)
    return tuple(promises.values())


def two_connections(uri: str, ids: Iterable[str | None]) -> ClaidInputError:
    """Return the error for a picture that would be looked for in two places of one name."""
    came = f"{uri} by the connections {' and '.join(sorted(map(repr, ids)))}"
    return ClaidInputError("images", came, "one connection for a picture")


def _promises(value: Any, conn_id: str | None) -> Iterator[Promise]:
    if isinstance(value, str) or is_path(value):
        uri = as_uri(value, "images")
        locate(uri, "images", conn_id)
        yield Promise(uri, storage_conn_id=conn_id)
    elif isinstance(value, Mapping) and "images" in value:
        yield from _promises(value["images"], value.get("storage_conn_id"))
    elif isinstance(value, Mapping):
        yield _promise(value, conn_id)
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        for item in value:
            yield from _promises(item, conn_id)
    else:
        raise ClaidInputError("images", f"a value of type {type(value).__name__}", _IMAGES_FORM, _IMAGES_FIX)


def _promise(image: Mapping[str, Any], conn_id: str | None) -> Promise:
    uri = as_uri(image.get("uri"), "images")
    if image.get("error") or not isinstance(uri, str):
        reason = image.get("error") or "it has no uri"
        raise ClaidInputError("images", f"a picture that was not delivered: {reason}", _IMAGES_FORM)
    facts = {name: _fact(name, image[name]) for name in _FACTS if image.get(name) is not None}
    facts.setdefault("storage_conn_id", conn_id)
    locate(uri, "images", facts["storage_conn_id"])
    return Promise(uri, **facts)


_FACTS: dict[str, type[int | str]] = {
    **dict.fromkeys(("width", "height", "bytes"), int),
    **dict.fromkeys(("mime", "sha256", "expires_at", "storage_conn_id"), str),
    "filtered": bool,
}


def _fact(name: str, value: Any) -> Any:
    """Check one thing that was said of a picture; a fact of another type would be waited for in vain."""
    kind = _FACTS[name]
    if type(value) is not kind:
        came = f"{value!r:.40} ({type(value).__name__}) as the {name} of a picture"
        raise ClaidInputError("images", came, f"{kind.__name__}, as in claid_result")
    if name != "expires_at":
        return value
    return _moment(value, "images", "a picture whose expires_at is ISO 8601").isoformat()


def check_folder(folder: Any) -> str:
    """Check the URI of a folder in a store; return it. A path object gets the final slash that it cannot keep."""
    folder = as_uri(folder, "folder", folder=True)
    place = locate(folder, "folder", None)
    if place.scheme in WEB:
        raise ClaidInputError("folder", repr(folder), _FOLDER_FORM, "A web address cannot be listed.")
    if not folder.endswith("/"):
        raise ClaidInputError("folder", repr(folder), _FOLDER_FORM, "Add the final slash.")
    return str(folder)


def locate(uri: Any, field: str, conn_id: str | None) -> Address:
    """
    Take a URI apart; a connection id in it (`s3://id@bucket/`) counts as `conn_id`. Nothing in it is decoded.

    Any character may be in a key; only web addresses know `?` and `#`.
    """
    accepted = _FOLDER_FORM if field == "folder" else _IMAGES_FORM
    if not isinstance(uri, str):
        raise ClaidInputError(field, f"a value of type {type(uri).__name__}", accepted)
    scheme, separator, rest = uri.partition("://")
    authority, _, key = rest.partition("/")
    inline, _, bucket = authority.rpartition("@")
    if ":" in inline or (inline and scheme not in STORES[:-1]):
        # The address is not shown: it may hold a secret.
        fix = "Put the credentials into an Airflow connection and name it in storage_conn_id."
        raise ClaidInputError(field, "an address with credentials (not shown)", accepted, fix)
    if not separator or any(mark in uri[:1] for mark in "[{"):
        fix = _IMAGES_FIX if field == "images" else "Begin with a scheme; a local path is file:///path/."
        raise ClaidInputError(field, f"{uri!r:.80}" if "@" not in uri else "a text", accepted, fix)
    _check_place(uri, field, Address(scheme, bucket, key, inline or conn_id), accepted)
    if inline and conn_id and inline != conn_id:
        fix = f"The address names the connection {inline!r}, storage_conn_id {conn_id!r}: leave one out."
        raise ClaidInputError(field, f"{uri!r:.80}", accepted, fix)
    return Address(scheme, bucket, key, inline or conn_id)


def _check_place(uri: str, field: str, address: Address, accepted: str) -> None:
    scheme, bucket, local = address.scheme, address.bucket, address.scheme == "file"
    known = (*STORES, "storage", *WEB)
    if scheme not in known:
        raise ClaidInputError(field, f"the scheme {scheme!r} ({uri!r:.80})", f"one of {', '.join(known)}")
    names_nothing = field == "images" and scheme not in WEB and address.key.rpartition("/")[2] == ""
    faults = {
        "A local path has three slashes: file:///path.": local and bool(bucket),
        "Airflow's form is abfs://container/path, with the account in the connection.": ".dfs.core." in bucket,
        "The bucket or name is missing.": (not local and not bucket) or names_nothing,
    }
    for fix, found in faults.items():
        if found:
            raise ClaidInputError(field, f"{uri!r:.80}", accepted, fix)


def read_since(since: Any) -> datetime | None:
    """Read a date and time (ISO 8601, or a datetime; without a zone: UTC), down to the second, as stores tell it."""
    if since is None or since == "":
        return None
    moment = _moment(since, "since", "a date and time in ISO 8601, such as {{ dag_run.run_after }}")
    return moment.replace(microsecond=0)


def unmoved(since: datetime | None, moved: Iterable[Any], fixed: Iterable[Any]) -> datetime | None:
    """
    Return `since`, or if it is one of the moments that have moved, the first of the fixed ones that is known.

    A run that is cleared gets another start: its pictures, made before that, would be waited for in vain.
    """
    if since is None or since not in {read_since(moment) for moment in moved}:
        return since
    known = (read_since(moment) for moment in fixed)
    return min(since, next((moment for moment in known if moment is not None), since))


def _moment(value: Any, field: str, accepted: str) -> datetime:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (AttributeError, OverflowError, ValueError):
        raise ClaidInputError(field, f"{value!r:.60}", accepted) from None


def _count(value: Any) -> int:
    accepted = "a whole number of at least 1"
    try:
        count = int(value.strip()) if isinstance(value, str) else value
    except ValueError:
        count = None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        fix = "folder needs it: how many pictures are to be there." if value is None else ""
        raise ClaidInputError("expected_count", f"{value!r:.40}", accepted, fix)
    return count
