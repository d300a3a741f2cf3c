"""An order is plain JSON on its way to the triggerer and back, and comes back as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.delivery.checks import ON_FILTERED, Target, check_request
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.hooks.order import Order

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ORDERS = st.builds(
    Order,
    st.builds(Identity, TEXTS, TEXTS, TEXTS, st.integers(-1, 5), st.none() | st.integers(0, 5)),
    st.integers(0, 9),
    st.builds(
        check_request,
        st.sampled_from(["a red bicycle", "ein rotes Fahrrad ✓"]),
        st.integers(1, 4),
        st.floats(1, 49),
        st.none() | st.just("storage://name/folder/"),
    ),
    TEXTS,
    storage_conn_id=st.none() | TEXTS,
    max_submissions=st.integers(1, 5),
    reuse=st.booleans(),
    own_folder=st.booleans(),
    reconcile_timeout=st.floats(0, 86_400),
    name=TEXTS,
    target=st.none() | st.builds(Target, TEXTS, TEXTS, st.none() | TEXTS),
    tags=st.dictionaries(TEXTS, TEXTS, max_size=3),
    on_filtered=st.sampled_from(ON_FILTERED),
    base_url=TEXTS,
    timeout=st.floats(0.1, 3600),
)


@given(ORDERS)
def test_what_is_written_down_is_read_back(order):
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order


@given(ORDERS, st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS, min_size=1, max_size=3))
def test_anything_else_is_a_value_error(order, other):
    for value in (other, {**order.to_json(), "colour": "red"}, {}, None, [], "text", 7):
        with pytest.raises(ValueError, match="Error: "):
            Order.from_json(value)


def test_the_account_of_an_order_names_the_api_and_holds_no_key():
    order = Order(Identity("d", "r", "t"), 0, check_request("a cup", 1, 5.0, None), "c", base_url="http://127.0.0.1:1")
    endpoint = order.keyless_account().endpoint
    assert (endpoint.is_local, endpoint.api_key, endpoint.timeout) == (True, "", 180.0)
