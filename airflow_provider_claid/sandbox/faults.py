"""The faults a sandbox can be told to commit: what a rule may say, and which rule strikes next."""

import random
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Place = Literal["generate", "picture", "storage", "connect"]
BodyShape = Literal["flat", "nested", "fastapi", "html", "text", "empty", "garbage-json", "list"]

_ANSWERS = frozenset[Place]({"generate", "picture", "storage"})
_GENERATE = frozenset[Place]({"generate"})
_PICTURE = frozenset[Place]({"picture"})


@dataclass(frozen=True)
class Kind:
    """Where a kind of fault can strike, which options it has, and whether it bills by default."""

    on: frozenset[Place]
    options: frozenset[str] = frozenset()
    billed: bool = True


KINDS = {
    "status": Kind(_ANSWERS, frozenset({"status", "body", "headers", "message", "echo_key", "billed"}), billed=False),
    "hang": Kind(_ANSWERS | {"connect"}, frozenset({"seconds", "billed"})),
    "reset": Kind(_ANSWERS | {"connect"}, frozenset({"when"})),
    "close": Kind(_ANSWERS | {"connect"}, frozenset({"billed"}), billed=False),
    "cut": Kind(_ANSWERS, frozenset({"billed"})),
    "garbage": Kind(_ANSWERS, frozenset({"billed"})),
    "slow": Kind(_ANSWERS, frozenset({"seconds", "billed"})),
    "redirect": Kind(_ANSWERS, frozenset({"status", "location", "billed"}), billed=False),
    "wrong_types": Kind(_GENERATE, frozenset({"billed"})),
    "empty_output": Kind(_GENERATE, frozenset({"billed"}), billed=False),
    "fewer": Kind(_GENERATE, frozenset({"billed"})),
    "html": Kind(_PICTURE),
    "truncated": Kind(_PICTURE),
    "short": Kind(_PICTURE),
    "wrong_size": Kind(_PICTURE),
    "huge": Kind(_PICTURE, frozenset({"stream", "size"})),
    "corrupt": Kind(_PICTURE),
    "zero": Kind(_PICTURE),
    "http_redirect": Kind(_PICTURE, frozenset({"status", "location"})),
}

_RULE = frozenset({"on", "kind", "times", "probability", "after", "match"})
_MOMENTS = {"connect": (None, "accept"), "generate": ("before_billing", "after_billing")}
_ALWAYS_NEEDED = {"status": "status", "hang": "seconds", "slow": "seconds", "redirect": "location"}


class Fault(BaseModel):
    """
    A rule: commit `kind` the next `times` (None: always) it matches, after the first `after` matches.

    `match` is a part of the prompt; `probability` is drawn anew for each match. The other fields are
    options of a kind (see `KINDS`): seconds, bytes (`size`), an HTTP `status` with a `body` shape.
    `billed` None is the kind's default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Place
    kind: str
    times: Annotated[int, Field(ge=1)] | None = 1
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    after: Annotated[int, Field(ge=0)] = 0
    match: str | None = None

    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: BodyShape = "flat"
    headers: dict[str, str] = {}
    message: str | None = None
    echo_key: bool = False
    billed: bool | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    when: Literal["accept", "before_billing", "after_billing"] | None = None
    location: str | None = None
    stream: bool = False
    size: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _says_what_its_kind_can_do(self) -> Self:
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ValueError(f"unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        if self.on not in kind.on:
            raise ValueError(f"kind {self.kind!r} strikes on {', '.join(sorted(kind.on))} only")
        if foreign := sorted(self.model_fields_set - _RULE - kind.options):
            raise ValueError(f"kind {self.kind!r} has no option {', '.join(foreign)}")
        needed = _ALWAYS_NEEDED.get(self.kind)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"kind {self.kind!r} needs {needed!r}")
        if self.billed is not None and self.on != "generate":
            raise ValueError("only a generation can be billed")
        if self.on == "connect" and self.match is not None:
            raise ValueError("a connection has no prompt to match")
        if self.kind == "reset":
            self._check_moment()
        return self

    def _check_moment(self) -> None:
        allowed = _MOMENTS.get(self.on, (None,))
        if self.when not in allowed:
            moments = " or ".join(str(moment) for moment in allowed)
            raise ValueError(f"a reset on {self.on!r} takes as 'when': {moments}")

    def billed_pictures(self, asked: int) -> int:
        """Return for how many of the `asked` pictures (1 credit each) a struck generation is billed."""
        billed = self.billed
        if self.kind == "reset":
            billed = self.when == "after_billing"
        elif billed is None:
            billed = KINDS[self.kind].billed
            if self.kind == "fewer":
                return asked - 1
        return asked if billed else 0

    def made_pictures(self, asked: int) -> int:
        """Return how many of the `asked` pictures are made (and written, with a storage as output)."""
        if self.kind == "fewer":
            return asked - 1
        if self.kind in {"cut", "slow", "wrong_types"}:
            return asked
        return self.billed_pictures(asked)

    @property
    def drops_at_once(self) -> bool:
        """Whether the connection goes before anything is generated (what was billed still gets made)."""
        return self.kind in {"reset", "close"}


@dataclass
class _Standing:
    rule: Fault
    matched: int = 0
    struck: int = 0

    def strikes(self, luck: random.Random) -> bool:
        if self.rule.times is not None and self.struck >= self.rule.times:
            return False
        self.matched += 1
        if self.matched <= self.rule.after or luck.random() >= self.rule.probability:
            return False
        self.struck += 1
        return True


@dataclass
class FaultBook:
    """The rules in force, in the order they were added; the first one that strikes is the one committed."""

    luck: random.Random
    standing: list[_Standing] = field(default_factory=list)

    def add(self, rule: Fault) -> None:
        """Put `rule` behind those already in force."""
        self.standing.append(_Standing(rule))

    def clear(self) -> None:
        """Drop every rule."""
        self.standing.clear()

    def pick(self, on: Place, prompt: str = "") -> Fault | None:
        """Return the fault to commit now at this place, if any, and count it as committed."""
        for standing in self.standing:
            rule = standing.rule
            if rule.on == on and (rule.match is None or rule.match in prompt) and standing.strikes(self.luck):
                return rule
        return None

    def describe(self) -> list[dict[str, object]]:
        """Return each rule as it was given, with how often it matched and struck."""
        return [
            {**s.rule.model_dump(exclude_unset=True), "matched": s.matched, "struck": s.struck} for s in self.standing
        ]
