"""Credit assignment: from rewards of a group to an advantage and a weight for every turn. Arrays only.

One estimator a file; each takes a `GroupRewards` and gives a `Credit`. `ESTIMATORS` names them for recipes.
"""

from collections.abc import Callable, Mapping

from banty.credit.grpo import grpo
from banty.credit.rloo import rloo
from banty.credit.types import Credit, GroupRewards

ESTIMATORS: Mapping[str, Callable[[GroupRewards], Credit]] = {"rloo": rloo, "grpo": grpo}

__all__ = ["ESTIMATORS", "Credit", "GroupRewards", "grpo", "rloo"]
