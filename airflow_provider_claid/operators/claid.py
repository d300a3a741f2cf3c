"""The operators: one prompt, or a whole batch of them, into stored, checked pictures."""

from __future__ import annotations

from airflow_provider_claid.operators.batch import ClaidGenerateBatchOperator
from airflow_provider_claid.operators.image import ClaidGenerateImageOperator

__all__ = ["ClaidGenerateBatchOperator", "ClaidGenerateImageOperator"]
