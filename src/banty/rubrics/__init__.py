"""What turns were and what they earn: golden matching, tiers, reward files."""

from banty.records import ToolMatching
from banty.rubrics.labels import CallLabel, GoldenCalls, Labeller, TurnLabel, changed_state, label_rollout, rewarded
from banty.rubrics.matching import (
    LOOSE,
    STRICT,
    Arguments,
    Matching,
    Wanted,
    arguments_of,
    deep_equal,
    match_score,
    wanted_of,
)
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
    "Arguments",
    "CallLabel",
    "GoldenCalls",
    "Labeller",
    "Matching",
    "Predicate",
    "RewardFile",
    "Tier",
    "ToolMatching",
    "TurnLabel",
    "Wanted",
    "arguments_of",
    "changed_state",
    "deep_equal",
    "diff_of",
    "label_rollout",
    "match_score",
    "packaged",
    "read_reward_file",
    "rewarded",
    "wanted_of",
    "with_functions",
    "write_reward_file",
]
