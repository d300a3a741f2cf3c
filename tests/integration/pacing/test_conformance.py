"""The suite of every store, on the real Redis and the real PostgreSQL."""

from tests.unit.pacing.test_store_credits import *  # noqa: F403
from tests.unit.pacing.test_stores import *  # noqa: F403
