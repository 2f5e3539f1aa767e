"""What computing costs: operations and bytes by a model's shape, a machine's limits, and where the time goes."""

from banty.perf.lever import PhaseShare, lever, phase_shares
from banty.perf.machine import DEVICES, Machine
from banty.perf.phases import PhaseMeter, shares_of
from banty.perf.plan import EpisodeShape, Plan, UnitCosts, Workload
from banty.perf.shape import Shape, shape_of
from banty.perf.usage import Metered, Usage, usage_since

__all__ = [
    "DEVICES",
    "EpisodeShape",
    "Machine",
    "Metered",
    "PhaseMeter",
    "PhaseShare",
    "Plan",
    "Shape",
    "UnitCosts",
    "Usage",
    "Workload",
    "lever",
    "phase_shares",
    "shape_of",
    "shares_of",
    "usage_since",
]
