"""The slot of a request whose credits are booked with it, and what a refused or unreachable budget means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from airflow_provider_claid.api.errors import ClaidBudgetError, ClaidConfigurationError, ClaidError, ClaidNotSentError
from airflow_provider_claid.api.models import CREDITS_PER_IMAGE, GenerateRequest
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.pacing.budget import BudgetError, Spend
from airflow_provider_claid.pacing.pacer import Pacer
from airflow_provider_claid.pacing.slot import Slot
from airflow_provider_claid.pacing.store import FolderError, StoreError


@asynccontextmanager
async def budgeted_slot(pace: Pacer, account: Account, request: GenerateRequest) -> AsyncIterator[Slot]:
    """
    Book a slot, and the request's credits if the account has `daily_credits`: given back if surely not billed.

    Raises `ClaidBudgetError` if the day's credits do not suffice, `ClaidNotSentError` if they cannot be booked, and
    `ClaidConfigurationError` if the folder of the schedules cannot be used.
    """
    cost = request.options.number_of_images * CREDITS_PER_IMAGE
    spend = None if account.daily_credits is None else Spend(cost, account.daily_credits)
    try:
        async with pace.slot(spend) as slot:
            try:
                yield slot
            except ClaidError as error:
                if error.billed == "no":
                    await slot.refund()
                raise
    except BudgetError as error:
        fix = "Raise daily_credits in the connection, or wait for the next UTC day"
        raise ClaidBudgetError(f"daily_credits: {error}. {fix}") from None
    except FolderError as error:
        accepted = "a local folder that belongs to the user of this process alone and to this machine"
        came = f"'{error.folder}', which {error.came}"
        fix = f"{error.fix[0].upper()}{error.fix[1:]}."
        raise ClaidConfigurationError("[claid] pacing_dir", came, accepted, fix) from error
    except StoreError as error:
        message = f"{error}. Without that, daily_credits cannot be booked"
        raise ClaidNotSentError(message) from error
