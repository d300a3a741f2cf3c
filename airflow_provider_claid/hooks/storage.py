"""Which Airflow connection a store is reached by, looked up before anything is paid or waited for."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.delivery.checks import DEFAULT_CONNECTIONS
from airflow_provider_claid.hooks.lookup import not_found


def storage_connection(conn_id: str | None, scheme: str) -> str | None:
    """
    Return the connection to use, looked up: the given one must exist, the scheme's default is used if it does.

    Airflow's object storage takes credentials of the machine for an unknown connection, and for none, in silence.
    Blocks.
    """
    wanted = conn_id or DEFAULT_CONNECTIONS.get(scheme)
    if wanted is None:
        return None
    try:
        BaseHook.get_connection(wanted)
    except AirflowNotFoundException:
        if conn_id is None:
            return None
        accepted, fix = "the id of an Airflow connection", "Leave it out for the default of the scheme."
        raise ClaidConfigurationError("storage_conn_id", not_found(conn_id), accepted, fix) from None
    return wanted
