"""What one look for pictures found, and what it means: wait on, hand on, or fail. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_claid.api.errors import ClaidContentFilteredError
from airflow_provider_claid.delivery.checks import OnFiltered

SHOWN = 10


@dataclass(frozen=True)
class Report:
    """
    URIs that are delivered, in the order they were asked for; those of them that are black; why others are missing.

    `where` is the folder they are looked for in, if it is one.
    """

    expected: int
    delivered: tuple[str, ...] = ()
    black: frozenset[str] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None

    @property
    def done(self) -> bool:
        """True if as many are delivered as were expected."""
        return len(self.delivered) >= self.expected

    def summary(self, shown: int = SHOWN) -> str:
        """Say how many of how many are delivered, and which are not and why, at most `shown` of them."""
        lines = [
            f"{_shown(uri)} ({reason})" for _, (uri, reason) in zip(range(shown), self.missing.items(), strict=False)
        ]
        more = f"; and {len(self.missing) - len(lines)} more" if len(self.missing) > len(lines) else ""
        missing = f" Missing: {'; '.join(lines)}{more}." if lines else ""
        place = f" in {self.where}" if self.where else ""
        return f"{len(self.delivered)} of {self.expected} pictures are delivered{place}.{missing}"


def _shown(uri: str) -> str:
    """Leave out the query of a web address, which may be a signature."""
    return uri.partition("?")[0] if uri.startswith("http") else uri


def handed_on(report: Report, on_filtered: OnFiltered) -> list[str] | None:
    """
    Return the URIs to hand on, None while pictures are missing; raise for black ones as the policy says.

    `fail` raises for one, `skip` where none is left: the task is skipped then.
    """
    if on_filtered == "fail" and report.black:
        raise _filtered(report)
    if not report.done:
        return None
    uris = [uri for uri in report.delivered if on_filtered == "keep" or uri not in report.black]
    if not uris:
        raise _filtered(report)
    return uris


def _filtered(report: Report) -> ClaidContentFilteredError:
    black = sorted(report.black)
    good = [uri for uri in report.delivered if uri not in report.black]
    message = f"The content filter made {len(black)} pictures black: {black[:SHOWN]}. Delivered: {good[:SHOWN]}"
    # Whose they are, and what they cost, is not known here.
    return ClaidContentFilteredError(message, billed="unknown")
