"""What a test asks a running Airflow for, over its public REST API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

USER = PASSWORD = "admin"
_POLL_SECONDS = 0.2
# On a busy machine a first request can take a minute: the server then imports what it answers with.
_ANSWER_SECONDS = 120.0
_Result = TypeVar("_Result")


def wait_for(predicate: Callable[[], _Result], timeout: float, what: str) -> _Result:
    """Return the first true value of `predicate`."""
    end = time.monotonic() + timeout
    while True:
        if value := predicate():
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout:.0f} s: {what}")
        time.sleep(_POLL_SECONDS)


class AirflowRest:
    """The API of an Airflow at `base_url`, as the user `admin`."""

    version = "v2"

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._http = httpx.Client(base_url=base_url, timeout=_ANSWER_SECONDS, trust_env=False)

    @cached_property
    def _token(self) -> str:
        answer = self._http.post("/auth/token", json={"username": USER, "password": PASSWORD})
        answer.raise_for_status()
        return answer.json()["access_token"]

    def _credentials(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def api(self, method: str, path: str, *, accept: str = "application/json", **request: Any) -> httpx.Response:
        """Return the answer to a request below /api/{version}; an error names what the server said."""
        headers = {"Accept": accept, **self._credentials()}
        answer = self._http.request(method, f"/api/{self.version}/{path}", headers=headers, **request)
        if answer.is_error:
            message = f"{method} {path}: {answer.status_code} {answer.text:.2000}"
            raise httpx.HTTPStatusError(message, request=answer.request, response=answer)
        return answer

    def get(self, path: str, **params: Any) -> Any:
        return self.api("GET", path, params=params).json()

    def health(self) -> dict[str, Any]:
        """Return each component's state; nothing while the API does not answer."""
        try:
            return self._http.get("/api/v2/monitor/health", timeout=10).raise_for_status().json()
        except httpx.HTTPError:
            return {}

    def wait_for(self, predicate: Callable[[], _Result], timeout: float, what: str) -> _Result:
        return wait_for(predicate, timeout, what)

    def wait_dag(self, dag_id: str, timeout: float = 300) -> dict[str, Any]:
        """Return a Dag once the Dag processor has stored it."""
        try:
            return wait_for(lambda: self._dag(dag_id), timeout, f"Dag {dag_id}")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; import errors: {self.import_errors()}") from None

    def _dag(self, dag_id: str) -> dict[str, Any] | None:
        found = self.get("dags", dag_id_pattern=dag_id)["dags"]
        return next((dag for dag in found if dag["dag_id"] == dag_id), None)

    def import_errors(self) -> list[dict[str, Any]]:
        return self.get("importErrors")["import_errors"]

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of a Dag, once the Dag is known; return the run's id."""
        self.wait_dag(dag_id)
        body = {"logical_date": None, "conf": conf or {}}
        return self.api("POST", f"dags/{dag_id}/dagRuns", json=body).json()["dag_run_id"]

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self.get(_run(dag_id, run_id))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return a Dag's runs, the oldest first."""
        return self.get(f"dags/{dag_id}/dagRuns", order_by="run_after", limit=100)["dag_runs"]

    def wait_run(
        self, dag_id: str, run_id: str, timeout: float = 300, states: Iterable[str] = ("success", "failed")
    ) -> str:
        """Return the state of a run once it is one of `states`; who is late is told with its task instances."""
        states = tuple(states)

        def state() -> str | None:
            return now if (now := self.run(dag_id, run_id)["state"]) in states else None

        try:
            return wait_for(state, timeout, f"{dag_id} {run_id} in {states}")
        except TimeoutError as late:
            tasks = [(ti["task_id"], ti["state"], ti["try_number"]) for ti in self.task_instances(dag_id, run_id)]
            raise TimeoutError(f"{late}; its tasks: {tasks}") from None

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the newest try of each task instance: state, try_number, map_index, pid, trigger ..."""
        found = self.get(f"{_run(dag_id, run_id)}/taskInstances", limit=100)["task_instances"]
        return sorted(found, key=lambda ti: (ti["task_id"], ti["map_index"]))

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        found = self.task_instances(dag_id, run_id)
        return next(ti for ti in found if (ti["task_id"], ti["map_index"]) == (task_id, map_index))

    def wait_task(
        self, dag_id: str, run_id: str, task_id: str, states: Iterable[str], timeout: float = 300, map_index: int = -1
    ) -> dict[str, Any]:
        """Return a task instance once its state is one of `states`."""
        states = tuple(states)

        def reached() -> dict[str, Any] | None:
            ti = self.task_instance(dag_id, run_id, task_id, map_index)
            return ti if ti["state"] in states else None

        return wait_for(reached, timeout, f"{dag_id}.{task_id} in {states}")

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[dict[str, Any]]:
        """Return all tries of a task instance, the first one first, each with its start and end."""
        path = f"{_task(dag_id, run_id, task_id)}{'' if map_index < 0 else f'/{map_index}'}/tries"
        return sorted(self.get(path)["task_instances"], key=lambda ti: ti["try_number"])

    def xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        key: str = "return_value",
        map_index: int = -1,
        default: Any = None,
    ) -> Any:
        """Return an XCom's value, `default` where there is none."""
        path = f"{_task(dag_id, run_id, task_id)}/xcomEntries/{quote(key, safe='')}"
        try:
            return self.get(path, map_index=map_index, stringify=False)["value"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return default
            raise

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return all that Airflow shows as the log of one try, a line each: the message, then its other fields."""
        path = f"{_task(dag_id, run_id, task_id)}/logs/{try_number}"
        answer = self.api("GET", path, params={"map_index": map_index, "full_content": True})
        return "\n".join(_line(entry) for entry in answer.json()["content"])

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """Clear these tasks of a run (all without names), so that they run again."""
        # Airflow 2.11 lets the run rest unless it is told.
        how = {"dry_run": False, "only_failed": False, "reset_dag_runs": True}
        body: dict[str, Any] = {"dag_run_id": run_id, **how}
        self.api("POST", f"dags/{dag_id}/clearTaskInstances", json=body | ({"task_ids": task_ids} if task_ids else {}))

    def set_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task as `success`, `failed` or `skipped`, as a user does."""
        self.api("PATCH", _task(dag_id, run_id, task_id), json={"new_state": state})

    def asset_events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of the asset of this name, the oldest first."""
        found: list[dict[str, Any]] = []

        def answered() -> bool:
            try:
                found[:] = self.get("assets/events", name_pattern=name, order_by="timestamp", limit=100)["asset_events"]
            except httpx.HTTPStatusError as error:
                # Airflow 3.3.2 cannot show an event as long as a run that it started is queued.
                if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
                return False
            return True

        wait_for(answered, 300, f"events of the asset {name}")
        return [event for event in found if event["name"] == name]

    def asset_state(self, name: str) -> dict[str, Any]:
        """Return what the state store holds for the asset of this name."""
        found = self.get("assets", name_pattern=name)["assets"]
        asset = next((asset for asset in found if asset["name"] == name), None)
        if asset is None:
            return {}
        rows = self.get(f"assets/{asset['id']}/state-store")["asset_state_store"]
        return {row["key"]: row["value"] for row in rows}


def _run(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run(dag_id, run_id)}/taskInstances/{task_id}"


def _line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    rest = {name: value for name, value in entry.items() if name not in ("event", "timestamp", "level") and value}
    return f"{entry.get('event', '')} {json.dumps(rest, ensure_ascii=False) if rest else ''}".rstrip()
