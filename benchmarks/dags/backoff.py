"""A catalogue as one would write it without us: mapped chunks of httpx, with exponential backoff after a 429."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from pathlib import Path

import httpx
from airflow.providers.common.compat.sdk import BaseHook, dag, task

AT_ONCE = 64
BASE, CAP = 1.0, 60.0


async def generate_all(url: str, key: str, prompts: list[str], folder: Path) -> None:
    """Generate a picture for each prompt, and download it."""
    turns = iter(enumerate(prompts))
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60.0, limits=limits) as client:

        async def worker() -> None:
            for number, prompt in turns:
                address = await generate(client, prompt)
                picture = await client.get(address)
                folder.joinpath(f"{number}.png").write_bytes(picture.raise_for_status().content)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def generate(client: httpx.AsyncClient, prompt: str) -> str:
    """Send until it is not refused; after each refusal wait with full jitter."""
    tries = 0
    while True:
        answer = await client.post("/v1/image/generate", json={"input": prompt, "options": {"number_of_images": 1}})
        if answer.status_code != 429:
            return answer.raise_for_status().json()["data"]["output"][0]["tmp_url"]
        await asyncio.sleep(random.uniform(0, min(CAP, BASE * 2**tries)))
        tries += 1


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def backoff():
    @task
    def cut(params: dict) -> list[list[int]]:
        """Tell of each chunk its first and its last line."""
        count = len(Path(params["prompts"].removeprefix("file://")).read_text().splitlines())
        return [[start, min(start + params["chunk"], count)] for start in range(0, count, params["chunk"])]

    @task
    def generate_chunk(chunk: list[int], params: dict) -> None:
        """Generate the pictures of these lines."""
        start, end = chunk
        lines = Path(params["prompts"].removeprefix("file://")).read_text().splitlines()
        folder = Path(params["folder"].removeprefix("file://")) / "pictures" / str(start)
        folder.mkdir(parents=True, exist_ok=True)
        connection = BaseHook.get_connection("claid_http")
        asyncio.run(generate_all(connection.host, connection.password, lines[start:end], folder))

    generate_chunk.expand(chunk=cut())


backoff()
