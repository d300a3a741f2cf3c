"""Which rules are accepted, which one strikes, and what it costs."""

from __future__ import annotations

import random

import pytest

from airflow_provider_claid.sandbox.faults import KINDS, Fault, FaultBook


def book(*rules):
    made = FaultBook(random.Random(1))
    for rule in rules:
        made.add(Fault(**{"on": "generate", "kind": "garbage", **rule}))
    return made


def strikes(made, prompts):
    return [made.pick("generate", prompt) is not None for prompt in prompts]


def test_strikes_so_many_times_after_so_many():
    assert strikes(book({"times": 2, "after": 1}), ["x"] * 5) == [False, True, True, False, False]
    assert strikes(book({"times": None}), ["x"] * 5) == [True] * 5


def test_strikes_where_the_prompt_matches():
    made = book({"match": "red"})
    assert strikes(made, ["a blue one", "a red one", "a red one"]) == [False, True, False]
    assert made.pick("picture", "a red one") is None


def test_the_first_rule_that_strikes_wins():
    made = book({"kind": "cut"}, {"kind": "fewer"})
    assert [made.pick("generate").kind for _ in range(2)] == ["cut", "fewer"]
    assert made.pick("generate") is None
    assert [one["struck"] for one in made.describe()] == [1, 1]


def test_probability_is_drawn_for_each_match():
    hits = sum(strikes(book({"times": None, "probability": 0.3}), ["x"] * 1000))
    assert 250 < hits < 350


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"on": "generate", "kind": "nonsense"}, "unknown kind"),
        ({"on": "generate", "kind": "corrupt"}, "strikes on picture"),
        ({"on": "connect", "kind": "status", "status": 500}, "strikes on"),
        ({"on": "generate", "kind": "status"}, "needs 'status'"),
        ({"on": "generate", "kind": "hang"}, "needs 'seconds'"),
        ({"on": "generate", "kind": "redirect"}, "needs 'location'"),
        ({"on": "generate", "kind": "cut", "seconds": 1}, "has no option seconds"),
        ({"on": "generate", "kind": "reset"}, "before_billing or after_billing"),
        ({"on": "generate", "kind": "reset", "when": "accept"}, "before_billing or after_billing"),
        ({"on": "picture", "kind": "reset", "when": "after_billing"}, "takes as 'when': None"),
        ({"on": "picture", "kind": "cut", "billed": True}, "only a generation can be billed"),
        ({"on": "connect", "kind": "close", "match": "x"}, "no prompt"),
        ({"on": "generate", "kind": "cut", "times": 0}, "greater than or equal to 1"),
        ({"on": "generate", "kind": "cut", "probability": 2}, "less than or equal to 1"),
        ({"on": "nowhere", "kind": "cut"}, "Input should be"),
        ({"on": "generate", "kind": "cut", "surprise": 1}, "not permitted"),
    ],
)
def test_refuses_rules_that_would_do_nothing(rule, reason):
    with pytest.raises(ValueError, match=reason):
        Fault(**rule)


@pytest.mark.parametrize(
    ("rule", "billed", "made"),
    [
        ({"kind": "status", "status": 500}, 0, 0),
        ({"kind": "status", "status": 500, "billed": True}, 4, 4),
        ({"kind": "hang", "seconds": 1}, 4, 4),
        ({"kind": "hang", "seconds": 1, "billed": False}, 0, 0),
        ({"kind": "reset", "when": "before_billing"}, 0, 0),
        ({"kind": "reset", "when": "after_billing"}, 4, 4),
        ({"kind": "close"}, 0, 0),
        ({"kind": "close", "billed": True}, 4, 4),
        ({"kind": "cut"}, 4, 4),
        ({"kind": "cut", "billed": False}, 0, 4),
        ({"kind": "garbage"}, 4, 4),
        ({"kind": "empty_output"}, 0, 0),
        ({"kind": "empty_output", "billed": True}, 4, 4),
        ({"kind": "fewer"}, 3, 3),
        ({"kind": "fewer", "billed": True}, 4, 3),
        ({"kind": "fewer", "billed": False}, 0, 3),
        ({"kind": "redirect", "location": "/x"}, 0, 0),
    ],
)
def test_what_a_struck_generation_costs_and_makes(rule, billed, made):
    fault = Fault(on="generate", **rule)
    assert (fault.billed_pictures(4), fault.made_pictures(4)) == (billed, made)


def test_each_kind_can_strike_somewhere():
    assert all(kind.on for kind in KINDS.values())
