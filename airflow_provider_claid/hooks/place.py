"""From the Airflow connection that `pacing_conn_id` names to a `Place`, read as Airflow's own providers read it."""

from __future__ import annotations

from importlib.util import find_spec

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.hooks.form import AirflowConnection, Form
from airflow_provider_claid.pacing.place import Place, Value

PACING_FORM = "the id of an Airflow connection of type redis or postgres"
# An address in an environment variable may say `rediss`, which is Redis over TLS.
KINDS = {"redis": "redis", "rediss": "redis", "postgres": "psycopg"}
_EXTRAS = {"redis": "redis", "psycopg": "postgres"}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
# Of libpq; whatever else an extra holds is for other users of the connection.
_LIBPQ = (
    "channel_binding", "gssencmode", "hostaddr", "krbsrvname", "load_balance_hosts", "options", "passfile",
    "require_auth", "service", "sslcert", "sslcertmode", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword",
    "sslrootcert", "target_session_attrs",
)  # fmt: skip


def place_from(connection: AirflowConnection) -> Place:
    """Read a connection of one of `KINDS`; raises `ClaidConfigurationError` for the first field that is wrong."""
    package = KINDS[str(connection.conn_type)]
    if find_spec(package) is None:
        accepted = f"an environment with the package {package!r}"
        fix = f"pip install 'airflow-provider-claid[{_EXTRAS[package]}]'"
        raise ClaidConfigurationError(f"Connection {connection.conn_id!r}", f"no {package!r}", accepted, fix)
    form = _PlaceForm(connection)
    return form.redis() if package == "redis" else form.postgres()


class _PlaceForm(Form):
    def redis(self) -> Place:
        cluster = self.flag("cluster", default=False)
        database = int(self.number("db", 0, 0, 1_000_000, whole=True))
        if cluster and database:
            raise self.wrong("extra db", str(database), "0, the only database of a cluster")
        tls = self.flag("ssl", default=self.connection.conn_type == "rediss")
        return Place(
            "redis",
            self.connection.conn_id,
            self._host(),
            self.connection.port or 6379,
            self.connection.login or None,
            self._redis_password(),
            str(database),
            cluster,
            self._tls_options() if tls else (),
        )

    def _redis_password(self) -> str | None:
        # Airflow's own hook takes these words for none.
        password = self.connection.password or ""
        return None if password.lower() in {"", "none", "false"} else password

    def _tls_options(self) -> tuple[tuple[str, Value], ...]:
        checks = self.text("ssl_cert_reqs") or "required"
        if checks not in {"required", "optional", "none"}:
            raise self.wrong("extra ssl_cert_reqs", repr(checks), "required, optional or none")
        host = checks != "none" and self.flag("ssl_check_hostname", default=True)
        files = [(name, value) for name in _TLS_FILES if (value := self.text(name))]
        return (("ssl", True), ("ssl_cert_reqs", checks), ("ssl_check_hostname", host), *files)

    def postgres(self) -> Place:
        if self.flag("iam", default=False):
            raise self.wrong("extra iam", "true", "nothing", "Give the pacing a user with a password.")
        return Place(
            "postgres",
            self.connection.conn_id,
            self._host(),
            self.connection.port or 5432,
            self.connection.login or None,
            self.connection.password or None,
            self.connection.schema or self.connection.login or "",
            options=tuple((name, str(value)) for name in _LIBPQ if (value := self.extra.get(name)) not in (None, "")),
        )

    def _host(self) -> str:
        host = (self.connection.host or "").strip()
        if not host:
            raise self.wrong("host", "nothing", "the host of the server")
        return host
