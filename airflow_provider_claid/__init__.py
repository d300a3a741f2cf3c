"""Apache Airflow provider for Claid.ai text-to-image."""

__version__ = "0.1.0"
