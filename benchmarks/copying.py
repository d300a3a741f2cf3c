"""The process that copies pictures into S3, in each contestant's way; run by `benchmarks.copies`."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import requests
from airflow.providers.common.compat.sdk import BaseHook
from botocore.config import Config
from PIL import Image

from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.models import GeneratedImage, GenerateRequest
from airflow_provider_claid.delivery import sync
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.generate import GenerateResult
from airflow_provider_claid.delivery.job import ImageJob, deliver
from airflow_provider_claid.delivery.payment import Paid
from airflow_provider_claid.delivery.storage import Folder, open_folder
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.pacing.schedule import Pace
from benchmarks.child import measured, serve
from benchmarks.store import BUCKET, picture

CONNECTION = "aws_default"
THREADS = 8
MIME = "image/png"
DISTINCT = 16

_pictures: list[bytes] = []
_addresses: list[str] = []
_pool = ThreadPoolExecutor(THREADS)
_session = requests.Session()


def load(count: int, size: int) -> dict[str, Any]:
    """Draw pictures; return the bytes of all of them."""
    drawn = [picture(size) for _ in range(DISTINCT)]
    _pictures[:] = [drawn[number % DISTINCT] for number in range(count)]
    return {"bytes": sum(map(len, _pictures))}


def take(addresses: list[str]) -> dict[str, Any]:
    """Take the temporary addresses of pictures that are to be downloaded."""
    _addresses[:] = addresses
    return {}


def copy(way: str) -> dict[str, Any]:
    """Copy everything once, by one of `WAYS`."""
    return measured(WAYS[way])


@cache
def _client() -> Any:
    connection = BaseHook.get_connection(CONNECTION)
    return boto3.client(
        "s3",
        endpoint_url=connection.extra_dejson["endpoint_url"],
        region_name="us-east-1",
        aws_access_key_id=connection.login,
        aws_secret_access_key=connection.password,
        config=Config(s3={"addressing_style": "path"}),
    )


@cache
def _target(folder: str) -> Target:
    return Target(f"s3://{BUCKET}/{folder}/", "s3", CONNECTION)


@cache
def _folder(folder: str) -> Folder:
    return open_folder(_target(folder))


def _name(number: int) -> str:
    return f"{number:06}.png"


def _upload_fileobj() -> None:
    def upload(number: int) -> None:
        file = io.BytesIO(_pictures[number])
        _client().upload_fileobj(file, BUCKET, f"boto3/{_name(number)}", ExtraArgs={"ContentType": MIME})

    list(_pool.map(upload, range(len(_pictures))))


def _put_object() -> None:
    def put(number: int) -> None:
        _client().put_object(Bucket=BUCKET, Key=f"put/{_name(number)}", Body=_pictures[number], ContentType=MIME)

    list(_pool.map(put, range(len(_pictures))))


def _publish() -> None:
    folder = _folder("ours")

    async def all_of_them() -> None:
        await asyncio.gather(
            *(in_thread(folder.publish, _name(number), data, MIME) for number, data in enumerate(_pictures))
        )

    sync.run(all_of_them())


def _download_and_upload() -> None:
    def copy_one(number: int) -> None:
        with _session.get(_addresses[number], stream=True, timeout=60) as answer:
            answer.raise_for_status()
            key = f"boto3-job/{_name(number)}"
            _client().upload_fileobj(answer.raw, BUCKET, key, ExtraArgs={"ContentType": MIME})

    list(_pool.map(copy_one, range(len(_addresses))))


def _download_check_and_upload() -> None:
    def copy_one(number: int) -> None:
        answer = _session.get(_addresses[number], timeout=60)
        answer.raise_for_status()
        with Image.open(io.BytesIO(answer.content)) as opened:
            opened.verify()
        hashlib.sha256(answer.content).hexdigest()
        key = f"boto3-checked/{_name(number)}"
        _client().upload_fileobj(io.BytesIO(answer.content), BUCKET, key, ExtraArgs={"ContentType": MIME})

    list(_pool.map(copy_one, range(len(_addresses))))


def _job() -> None:
    folder, turns = _folder("ours-job"), iter(range(len(_addresses)))
    account = Account("benchmark", Endpoint("no-key", "http://127.0.0.1"), Pace(), Path("nowhere"))
    request = GenerateRequest.model_validate({"input": "anything", "options": {"number_of_images": 1}})

    async def copy_on() -> None:
        for number in turns:
            job = ImageJob(account, request, f"{number:06}", _target("ours-job"))
            images = (GeneratedImage(tmp_url=_addresses[number]),)
            paid = Paid(GenerateResult("anything", images, f"request {number}", None, datetime.now(UTC)))
            (delivered,) = (await deliver(job, paid, folder)).pictures
            if delivered.error:
                raise RuntimeError(delivered.error)

    async def all_of_them() -> None:
        await asyncio.gather(*(copy_on() for _ in range(THREADS)))

    sync.run(all_of_them())


WAYS: dict[str, Callable[[], None]] = {
    "upload_fileobj": _upload_fileobj,
    "put_object": _put_object,
    "publish": _publish,
    "download_and_upload": _download_and_upload,
    "download_check_and_upload": _download_check_and_upload,
    "job": _job,
}

if __name__ == "__main__":
    serve(load=load, take=take, copy=copy)
