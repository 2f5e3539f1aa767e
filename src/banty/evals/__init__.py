"""Evaluation that can be believed: suites of episodes, result cards, baselines, paired comparisons."""

from banty.evals.card import Card, make_card, read_card
from banty.evals.compare import CardComparison, compare_cards
from banty.evals.graders import GRADERS, grader_table
from banty.evals.suite import EvalPlan, evaluate, latest_roots, num_done, run_baselines

__all__ = [
    "GRADERS",
    "Card",
    "CardComparison",
    "EvalPlan",
    "compare_cards",
    "evaluate",
    "grader_table",
    "latest_roots",
    "make_card",
    "num_done",
    "read_card",
    "run_baselines",
]
