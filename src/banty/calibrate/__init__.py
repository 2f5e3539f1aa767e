"""Reward calibration: whether each part of the reward goes with success, which way training pushes it, and what its
value should become."""

from banty.calibrate.calibration import (
    Calibration,
    Scoring,
    calibrate,
    check_outcomes,
    criteria_of,
    intended,
    scored_turns,
)
from banty.calibrate.direction import Direction, Labelled, directions_of, flip_weight, tier_means
from banty.calibrate.gate import CalibrateBlock, Decided, Gate
from banty.calibrate.offline import Standing, changes, reward_correlation, standing_of
from banty.calibrate.propose import (
    Proposal,
    Rules,
    StopRule,
    applied,
    finished,
    pinned,
    propose,
    stop_rules,
    target_of,
)
from banty.calibrate.table import Evidence, TierRow, evidence_of, halves, joined, table_of

__all__ = [
    "CalibrateBlock",
    "Calibration",
    "Decided",
    "Direction",
    "Evidence",
    "Gate",
    "Labelled",
    "Proposal",
    "Rules",
    "Scoring",
    "Standing",
    "StopRule",
    "TierRow",
    "applied",
    "calibrate",
    "changes",
    "check_outcomes",
    "criteria_of",
    "directions_of",
    "evidence_of",
    "finished",
    "flip_weight",
    "halves",
    "intended",
    "joined",
    "pinned",
    "propose",
    "reward_correlation",
    "scored_turns",
    "standing_of",
    "stop_rules",
    "table_of",
    "target_of",
    "tier_means",
]
