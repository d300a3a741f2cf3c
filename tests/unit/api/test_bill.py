"""What is said of the money comes of one bill: what was sent and billed, now and in earlier attempts."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid import exceptions
from airflow_provider_claid.api import errors
from airflow_provider_claid.api.bill import Bill, current_bill, opened_bill
from airflow_provider_claid.exceptions import airflow_errors, described, revived

BILLED = ("no", "yes", "unknown")


def bill_of(earlier=(), now=()):
    bill = Bill()
    for number, billed in enumerate(earlier):
        bill.found(billed, f"Request e{number} made ['a']." if billed == "yes" else "", f"e{number}")
    for number, billed in enumerate(now):
        item = bill.add()
        item.billed, item.request_id = billed, f"n{number}"
        item.receipt = f"Request n{number} made ['b']." if billed == "yes" else ""
    return bill


@pytest.mark.parametrize(
    ("earlier", "now", "own", "said"),
    [
        ((), (), "no", "no"),
        ((), ("no",), "no", "no"),
        (("no",), (), "no", "no"),
        ((), ("yes",), "no", "yes"),
        ((), ("unknown",), "no", "unknown"),
        ((), ("unknown", "no"), "no", "unknown"),
        (("yes",), (), "no", "yes"),
        (("yes",), ("no",), "no", "yes"),
        (("unknown",), ("no",), "no", "unknown"),
        (("unknown",), ("yes",), "no", "unknown"),
        (("unknown",), (), "yes", "yes"),
        (("yes",), ("unknown",), "unknown", "unknown"),
        ((), (), "yes", "yes"),
    ],
)
def test_an_error_says_the_worst_that_is_true_and_never_less_than_it_knows(earlier, now, own, said):
    error = errors.ClaidPictureError("it failed", billed=own)
    bill_of(earlier, now).correct(error)
    assert error.billed == said


@given(
    st.lists(st.sampled_from(BILLED), max_size=3),
    st.lists(st.sampled_from(BILLED), max_size=3),
    st.sampled_from(BILLED),
)
def test_once_is_enough_and_nothing_paid_is_called_unbilled(earlier, now, own):
    bill, error = bill_of(earlier, now), errors.ClaidNotSentError("it failed", billed=own)
    bill.correct(error)
    first = str(error)
    bill.correct(error)
    assert str(error) == first
    assert ("not billed" in first) == ({*earlier, *now, own} == {"no"})


def test_what_earlier_attempts_paid_counts_in_no_metric_and_no_interruption():
    bill = bill_of(("yes", "yes"))
    bill.found("yes", "Request e0 made ['a'].", "e0")
    assert (bill.items, bill.billed, len(bill.earlier)) == ([], "no", 2)


def struck(error, found=(), sent=()):
    """Return what an error has become that strikes after these payments, of earlier attempts and of this one."""
    with pytest.raises(BaseException) as caught, airflow_errors():  # noqa: PT011, PT012
        current_bill().found(*found) if found else None
        for billed, request_id in sent:
            item = current_bill().add()
            item.billed, item.request_id = billed, request_id
        raise error
    return caught.value


@pytest.mark.parametrize("kind", ["ClaidConfigurationError", "ClaidInputError"])
def test_a_fault_of_a_field_after_a_payment_says_what_was_paid(kind):
    fault = getattr(errors, kind)("save_to", "'x'", "a folder", "Mend it.")
    error = struck(fault, ("yes", "Request r-1 made ['s3://b/1.png'].", "r-1"))
    assert type(error) is getattr(exceptions, kind)
    assert "Nothing was sent" not in str(error) and "not billed" not in str(error)
    assert str(error).endswith("Mend it. Request r-1 made ['s3://b/1.png']. (request id r-1, billed)")
    assert (error.field, error.billed) == ("save_to", "yes")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_fault_of_a_field_before_any_says_that_nothing_was_sent():
    assert str(struck(errors.ClaidInputError("prompt", "'a'", "a text"))).endswith("Nothing was sent.")


def test_a_second_submission_that_did_not_leave_does_not_hide_the_first():
    error = struck(errors.ClaidNotSentError("no connection"), sent=[("unknown", "r-1"), ("no", None)])
    assert type(error) is exceptions.ClaidNotSentError
    assert str(error) == "no connection (request id r-1, may have been billed)"


def test_a_refusal_keeps_its_own_request_id():
    fault = errors.ClaidRateLimitError("slow down", status=429, request_id="r-2")
    error = struck(fault, ("unknown", "", "r-1"))
    assert (error.request_id, error.billed) == ("r-2", "unknown")


def test_an_inner_piece_of_work_does_not_speak_for_the_outer_one():
    inner = struck(errors.ClaidConfigurationError("host", "x", "y"))
    assert inner.billed == "no"
    assert struck(inner, ("yes", "", "r-1")).billed == "yes"


def test_an_event_of_a_trigger_says_it_too_and_the_worker_repeats_it():
    with opened_bill() as bill:
        bill.found("yes", "Request r-1 made ['a'].", "r-1")
        event = described(errors.ClaidNotSentError("the store fails"))
    assert (event["billed"], event["request_id"]) == ("yes", "r-1")
    assert str(struck(revived(event))).endswith("(request id r-1, billed)")


def test_a_kind_of_its_own_comes_back_as_the_nearest_and_an_unknown_one_as_the_base():
    class OfAStoreError(errors.ClaidNotSentError):
        pass

    event = described(OfAStoreError("busy"))
    assert type(revived(event)) is exceptions.ClaidNotSentError
    assert type(revived({**event, "kind": "OfAnotherVersion"})) is errors.ClaidError


def test_an_interruption_after_a_payment_of_an_earlier_attempt_stays_what_it_is():
    assert type(struck(KeyboardInterrupt(), ("yes", "", "r-1"))) is KeyboardInterrupt
