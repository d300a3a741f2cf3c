"""What Airflow reads to know this provider; a literal, because every Airflow process calls it."""

from __future__ import annotations

from typing import Any

_STORAGE_URIS = [
    {
        "schemes": ["storage"],
        "handler": "airflow_provider_claid.assets.claid.sanitize_uri",
        "factory": "airflow_provider_claid.assets.claid.create_asset",
        "to_openlineage_converter": "airflow_provider_claid.assets.claid.convert_asset_to_openlineage",
    }
]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata (`provider_info.schema.json`, and `provider.yaml.schema.json` for the form)."""
    return {
        "package-name": "airflow-provider-claid",
        "name": "Claid.ai",
        "description": "`Claid.ai <https://claid.ai/>`__ text-to-image: paced, paid once, delivered and checked.",
        "integrations": [
            {
                "integration-name": "Claid.ai",
                "external-doc-url": "https://docs.claid.ai/",
                "tags": ["ai"],
            }
        ],
        "hooks": [{"integration-name": "Claid.ai", "python-modules": ["airflow_provider_claid.hooks.claid"]}],
        "operators": [{"integration-name": "Claid.ai", "python-modules": ["airflow_provider_claid.operators.claid"]}],
        "sensors": [{"integration-name": "Claid.ai", "python-modules": ["airflow_provider_claid.sensors.claid"]}],
        "triggers": [{"integration-name": "Claid.ai", "python-modules": ["airflow_provider_claid.triggers.claid"]}],
        "task-decorators": [
            {"name": "claid_images", "class-name": "airflow_provider_claid.decorators.claid.claid_images_task"}
        ],
        "asset-uris": _STORAGE_URIS,
        # Airflow 2.11 reads them under their older name.
        "dataset-uris": _STORAGE_URIS,
        "extra-links": [
            "airflow_provider_claid.links.claid.ClaidManifestLink",
            "airflow_provider_claid.links.claid.ClaidPictureLink",
        ],
        "connection-types": [
            {
                "connection-type": "claid",
                "hook-class-name": "airflow_provider_claid.hooks.claid.ClaidHook",
                "hook-name": "Claid.ai",
                "ui-field-behaviour": {
                    "hidden-fields": ["login"],
                    "relabeling": {"password": "API key"},
                    "placeholders": {"host": "https://api.claid.ai", "schema": "https"},
                },
                "conn-fields": {
                    "requests_per_second": {
                        "label": "Requests per second",
                        "description": "The account's limit; empty for 4.",
                        "schema": {"type": ["number", "string", "null"]},
                    },
                    "requests_per_minute": {
                        "label": "Requests per minute",
                        "description": "The account's limit; empty for 120.",
                        "schema": {"type": ["integer", "string", "null"]},
                    },
                    "request_timeout": {
                        "label": "Request timeout",
                        "description": "Seconds that one answer may take; empty for 180.",
                        "schema": {"type": ["number", "string", "null"]},
                    },
                    "account": {
                        "label": "Account",
                        "description": "Name it if several keys share one account's limits; empty for one per key.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "pacing_conn_id": {
                        "label": "Pacing connection",
                        "description": (
                            "Id of a connection of type redis or postgres, in which several hosts or containers keep "
                            "one pace; empty if one host uses the account."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "daily_credits": {
                        "label": "Daily credits",
                        "description": (
                            "Requests that would cost more in a UTC day are refused; empty for no limit. Several hosts "
                            "count together with a pacing connection; else each counts for itself, in [claid] "
                            "pacing_dir, which must be in a folder that outlives a reboot."
                        ),
                        "schema": {"type": ["integer", "string", "null"]},
                    },
                    "storages": {
                        "label": "Storages",
                        "description": 'For keys without the Storage scope: {"my-storage": "s3://bucket/prefix/"}.',
                        "schema": {"type": ["object", "string", "null"]},
                    },
                },
            }
        ],
        "config": {
            "claid": {
                "description": "Settings of the Claid.ai provider.",
                "options": {
                    "pacing_dir": {
                        "description": (
                            "Folder of the SQLite files that pace all processes of this host and OS user, one per "
                            "account. A local folder of this machine alone, owned by the user and writable by nobody "
                            "else; what cannot be used is refused. Empty: airflow-provider-claid-<uid> in /dev/shm, or "
                            "in the folder for temporary files where there is none."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/var/lib/airflow/claid-pacing",
                        "default": "",
                    },
                    "records_path": {
                        "description": (
                            "Folder of the records that keep retries from paying again, as a URI: S3, Google Cloud, "
                            "Azure or file:///path/, with the rights to put and to get. One per deployment: the runs "
                            "of two may have the same names. Needed for deferrable generation, and below Airflow 3.3 "
                            "for any protection of retries. Empty: the task state store of Airflow 3.3 and newer."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://my-bucket/claid-records/",
                        "default": "",
                    },
                },
            }
        },
    }
