"""What turns were and what they earn: golden matching, tiers, reward files."""

from banty.records import ToolMatching
from banty.rubrics.labels import CallLabel, Labeller, TurnLabel, label_rollout, rewarded
from banty.rubrics.matching import LOOSE, STRICT, Matching, deep_equal, match_score
from banty.rubrics.rewardfile import (
    PREDICATES,
    Predicate,
    RewardFile,
    Tier,
    diff_of,
    packaged,
    read_reward_file,
    with_functions,
    write_reward_file,
)

__all__ = [
    "LOOSE",
    "PREDICATES",
    "STRICT",
    "CallLabel",
    "Labeller",
    "Matching",
    "Predicate",
    "RewardFile",
    "Tier",
    "ToolMatching",
    "TurnLabel",
    "deep_equal",
    "diff_of",
    "label_rollout",
    "match_score",
    "packaged",
    "read_reward_file",
    "rewarded",
    "with_functions",
    "write_reward_file",
]
