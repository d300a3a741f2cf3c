"""A real S3 store for measurements: Ceph's gateway of the tests, pictures in it, and what it was asked."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.services.rgw import RadosGateway

BUCKET = "benchmark"
SENDERS = 8


@dataclass(frozen=True)
class Asked:
    """How many requests of each kind the store was sent."""

    lists: int
    heads: int
    ranges: int
    other: int

    def __str__(self) -> str:
        return f"{self.lists} / {self.heads} / {self.ranges}" + (f" (+{self.other})" if self.other else "")

    @property
    def total(self) -> int:
        """All of them."""
        return self.lists + self.heads + self.ranges + self.other


class Store:
    """The gateway with one bucket, and the environment of an Airflow that knows it as `aws_default`."""

    def __init__(self, gateway: RadosGateway, home: str) -> None:
        self._gateway = gateway
        self._home = home
        self.client = gateway.client()
        self.client.create_bucket(Bucket=BUCKET)

    def uri(self, key: str) -> str:
        """Return the address of a key."""
        return f"s3://{BUCKET}/{key}"

    def environment(self) -> dict[str, str]:
        """Return the environment for a process that measures."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))}
        return inherited | {
            "AIRFLOW_HOME": self._home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(self._gateway.airflow_connection()),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, keys: Sequence[str], data: bytes) -> None:
        """Store the same bytes under each of these keys."""

        def put_one(key: str) -> None:
            self.client.put_object(Bucket=BUCKET, Key=key, Body=data, ContentType="image/png")

        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(put_one, keys))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these keys."""
        for start in range(0, len(keys), 1000):
            objects = [{"Key": key} for key in keys[start : start + 1000]]
            self.client.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})

    def address(self, key: str) -> str:
        """Return a temporary web address of a key."""
        return str(self.client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key}))

    def forget(self) -> None:
        """Count requests from here."""
        self._gateway.forget_requests()

    def asked(self) -> Asked:
        """Return what was asked since `forget`."""
        made = self._gateway.requests()
        lists = sum("list-type=2" in one.path for one in made)
        heads = sum(one.method == "HEAD" for one in made)
        ranges = sum(one.range is not None for one in made)
        return Asked(lists, heads, ranges, len(made) - lists - heads - ranges)


@contextmanager
def store() -> Iterator[Store]:
    """Start a new, empty store; stop it."""
    with tempfile.TemporaryDirectory(prefix="claid-benchmark-") as home, RadosGateway() as gateway:
        yield Store(gateway, home)


def picture(size: int) -> bytes:
    """Return a PNG of about so many bytes: noise, which no compression makes smaller."""
    from PIL import Image

    out = io.BytesIO()
    side = int(size**0.5)
    Image.effect_noise((side, side), 80).save(out, "PNG")
    return out.getvalue()


def names(folder: str, count: int) -> list[str]:
    """Return the keys of so many pictures in a folder, in order."""
    return [f"{folder}/{number:06}.png" for number in range(count)]
