"""Credit assignment: from rewards of a group to an advantage and a weight for every turn. Arrays only.

One estimator a file, a pure function each; `CreditSpec` names one with its options for recipes, and `estimator_of`
makes of it what gives credit to a batch.
"""

from banty.credit.gdpo import gdpo
from banty.credit.gigpo import gigpo
from banty.credit.grpo import grpo
from banty.credit.gtpo import gtpo, hybrid
from banty.credit.metrics import DEAD, Turns, credit_metrics, gradient_shares, length_push, turns_of
from banty.credit.mtgrpo import mt_grpo
from banty.credit.normalise import normalise
from banty.credit.rloo import rloo
from banty.credit.spec import ESTIMATORS, BatchEstimator, CreditSpec, estimator_of
from banty.credit.tree import TreeCredit, TreeNode, inherit
from banty.credit.types import Credit, GroupRewards
from banty.credit.unbiased import unbiased

__all__ = [
    "DEAD",
    "ESTIMATORS",
    "BatchEstimator",
    "Credit",
    "CreditSpec",
    "GroupRewards",
    "TreeCredit",
    "TreeNode",
    "Turns",
    "credit_metrics",
    "estimator_of",
    "gdpo",
    "gigpo",
    "gradient_shares",
    "grpo",
    "gtpo",
    "hybrid",
    "inherit",
    "length_push",
    "mt_grpo",
    "normalise",
    "rloo",
    "turns_of",
    "unbiased",
]
