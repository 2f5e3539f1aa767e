"""Evaluation that can be believed: suites of episodes, result cards, baselines, paired comparisons."""

from banty.evals.card import Card, make_card, read_card
from banty.evals.compare import CardComparison, compare_cards
from banty.evals.graders import GRADERS, grader_table
from banty.evals.several import UserComparison, UserPair, compare_users
from banty.evals.suite import EvalPlan, evaluate, latest_roots, num_done, run_baselines
from banty.evals.users import user_of, user_of_card, user_words

__all__ = [
    "GRADERS",
    "Card",
    "CardComparison",
    "EvalPlan",
    "UserComparison",
    "UserPair",
    "compare_cards",
    "compare_users",
    "evaluate",
    "grader_table",
    "latest_roots",
    "make_card",
    "num_done",
    "read_card",
    "run_baselines",
    "user_of",
    "user_of_card",
    "user_words",
]
