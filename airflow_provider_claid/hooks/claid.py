"""The hook: Claid's API for tasks, with the account's pace kept and every error saying whether it was billed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, conf

from airflow_provider_claid.api.client import ClaidClient
from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidError, ClaidUnavailableError
from airflow_provider_claid.delivery import sync
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.storage_map import resolve
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.exceptions import ClaidPermissionError, airflow_errors
from airflow_provider_claid.get_provider_info import get_provider_info
from airflow_provider_claid.hooks.connection import account_from
from airflow_provider_claid.hooks.lookup import not_found
from airflow_provider_claid.hooks.records import no_place, records_uri, submissions_in
from airflow_provider_claid.pacing.sqlite import default_folder

if TYPE_CHECKING:
    from airflow_provider_claid.api.models import Storage
    from airflow_provider_claid.delivery.account import Account
    from airflow_provider_claid.delivery.generate import GenerateResult
    from airflow_provider_claid.hooks.form import AirflowConnection

CONFIG_SECTION = "claid"


class ClaidHook(BaseHook):
    """
    Talk to Claid.ai with the key and limits of an Airflow connection (default `claid_default`).

    Every generation waits for the account's pace, which all processes of this host share, and is sent at most once:
    an error that may have cost money is an `AirflowFailException`, so `retries` never pays twice.
    """

    conn_name_attr = "claid_conn_id"
    default_conn_name = "claid_default"
    conn_type = "claid"
    hook_name = "Claid.ai"

    def __init__(self, claid_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.claid_conn_id = claid_conn_id

    def generate(
        self,
        prompt: str,
        *,
        number_of_images: int = 1,
        guidance_scale: float = 5.0,
        output: str | None = None,
    ) -> GenerateResult:
        """
        Turn a prompt (3 to 1024 characters) into 1 to 4 pictures of 1024x1024 pixels; costs 1 credit each.

        `guidance_scale` is at least 1 and below 50; 5 to 7 is usual. `output` is a folder of a connected storage,
        `storage://name/folder/`; without it the pictures lie at temporary addresses for 24 hours.
        Source: Claid API §2. Raises a kind of `ClaidError`.
        """
        sync.refuse_inside_loop("agenerate(...)")
        with airflow_errors():
            request = check_request(prompt, number_of_images, guidance_scale, output)
            return sync.run(generate(self.account(), request))

    async def agenerate(
        self,
        prompt: str,
        *,
        number_of_images: int = 1,
        guidance_scale: float = 5.0,
        output: str | None = None,
    ) -> GenerateResult:
        """Do what `generate` does, awaited; a cancellation after the request left raises what it may have cost."""
        with airflow_errors():
            request = check_request(prompt, number_of_images, guidance_scale, output)
            return await generate(await self.aaccount(), request)

    def list_storages(self) -> tuple[Storage, ...]:
        """List the storages connected to the account; never billed. The key needs the Storage scope (Claid API §6)."""
        sync.refuse_inside_loop("ClaidClient.list_storages()")
        with airflow_errors():
            return sync.run(ClaidClient(self.account().endpoint).list_storages())

    def resolve_output(self, uri: str) -> str:
        """
        Resolve `storage://name/folder/` to `s3://bucket/prefix/folder/` or `gs://…`; never billed (Claid API §6.1).

        The connection's extra `storages` comes first; else the key needs the Storage scope.
        """
        sync.refuse_inside_loop("delivery.storage_map.resolve(...)")
        with airflow_errors():
            return sync.run(resolve(self.account(), uri))

    def submissions(
        self,
        dag_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        map_index: int = -1,
        *,
        records_path: str | None = None,
    ) -> list[dict[str, Any]]:
        """
        Tell what was paid for, from the records: one plain dictionary a submission, in the order they were sent.

        `dag_id`, `run_id`, `task_id`, `map_index`, `number`, `at` (ISO 8601), `prompt`, `number_of_images`, `output`,
        `outcome` (`done`, `adopted`, `unknown`, `unbilled`, or `open` while it is under way or left by a crash),
        `billed` (`no`, `yes`, `unknown`), `credits` (at most), `request_id`, `images` (URIs as Claid gave them),
        `message` and `record`, where it is written down. With `dag_id`, `run_id` and `task_id` it reads one task
        instance; with fewer it lists the whole folder, which needs the right to list. Costs nothing. Records in the
        task state store are seen in Airflow's own API alone, the items of a batch in its manifest; `item` is None.
        Raises `ClaidUnavailableError` while the store fails, `ClaidConfigurationError` for what a person must mend.
        """
        with airflow_errors():
            uri = records_uri(records_path)
            if uri is None:
                raise no_place()
            named = dag_id is not None and run_id is not None and task_id is not None
            identity = Identity(str(dag_id), str(run_id), str(task_id), map_index) if named else None
            with _records_read(uri):
                found = submissions_in(uri, identity)
            wanted = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
            described = [each.describe() for each in sorted(found, key=lambda each: each.intent.at)]
            return [each for each in described if all(value in (None, each[name]) for name, value in wanted.items())]

    def test_connection(self) -> tuple[bool, str]:
        """Ask `GET /v1/storage/storage-types`: it proves the key and is never billed."""
        try:
            with airflow_errors():
                sync.run(ClaidClient(self.account().endpoint).storage_types())
        except ClaidPermissionError:
            return True, "Claid accepted the key. It lacks the Storage scope, which only storage:// look-ups need."
        except ClaidError as error:
            return False, str(error)
        finally:
            # The API server asks from threads that come and go.
            sync.close()
        return True, "Claid accepted the key."

    def account(self) -> Account:
        """Look the connection up, check it, and make an HTTP client of it; raises `ClaidConfigurationError`."""
        with airflow_errors():
            connection = self._find(self.claid_conn_id)
            if connection is None:
                raise self._missing()
            account = account_from(connection, pacing_dir(), self._find)
            # Not kept, but what this host lets no client be made of is known before anything is paid.
            ClaidClient(account.endpoint)
            return account

    async def aaccount(self) -> Account:
        """Do what `account` does, without blocking the event loop."""
        # Not Airflow's own asynchronous look-up: its one thread is lost in a process that is forked afterwards.
        return await in_thread(self.account)

    def _find(self, conn_id: str) -> AirflowConnection | None:
        try:
            found: AirflowConnection = self.get_connection(conn_id)
        except AirflowNotFoundException:
            return None
        return found

    def _missing(self) -> ClaidConfigurationError:
        accepted = f"the id of an Airflow connection of type {self.conn_type!r}"
        return ClaidConfigurationError(
            "claid_conn_id",
            not_found(self.claid_conn_id),
            accepted,
            "Add it under Admin → Connections.",
        )

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe the connection form to Airflow below 3.2; newer ones read it from the provider info."""
        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Make the extra fields of the connection form for Airflow below 3.2, from the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import StringField

        fields = get_provider_info()["connection-types"][0]["conn-fields"]
        return {
            name: StringField(field["label"], description=field["description"], widget=BS3TextFieldWidget())
            for name, field in fields.items()
        }


@contextmanager
def _records_read(uri: str) -> Iterator[None]:
    """Turn what a store of records raises into an error that names the place and the remedy."""
    try:
        yield
    except StoreBusyError as busy:
        raise ClaidUnavailableError(f"The records in {uri} cannot be read now ({busy}): ask again later") from busy
    except FileNotFoundError as cause:
        accepted, fix = "the folder of the records, which is there", "Correct it, or create its bucket."
        raise ClaidConfigurationError("records_path", uri, accepted, fix) from cause


def pacing_dir() -> Path:
    """Return the folder of the schedules, from `[claid] pacing_dir`."""
    try:
        configured = Path(conf.get(CONFIG_SECTION, "pacing_dir", fallback="") or default_folder())
    except FileNotFoundError:
        came = "nothing, and this machine has no folder for temporary files"
        accepted = "a local folder that belongs to the user of this process alone"
        raise ClaidConfigurationError("[claid] pacing_dir", came, accepted, "Set it.") from None
    if not configured.is_absolute():
        accepted = "an absolute path"
        raise ClaidConfigurationError(
            "[claid] pacing_dir", f"{str(configured)!r}", accepted, "All processes must share it."
        )
    return configured
