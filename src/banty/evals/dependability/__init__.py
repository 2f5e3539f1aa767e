"""The dependability card: one measured policy, from one or more evaluations of it, with everything it rests on."""

from banty.evals.dependability.audit import audits_of
from banty.evals.dependability.build import FORMAT, dependability_card
from banty.evals.dependability.costs import Price
from banty.evals.dependability.facts import TaskFacts, facts_of, facts_of_log
from banty.evals.dependability.results import Result, User, read_results, users_of

__all__ = [
    "FORMAT",
    "Price",
    "Result",
    "TaskFacts",
    "User",
    "audits_of",
    "dependability_card",
    "facts_of",
    "facts_of_log",
    "read_results",
    "users_of",
]
