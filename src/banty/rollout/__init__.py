"""Running episodes: the driver, exact order, groups, the store, replay."""

from banty.rollout.cast import Cast
from banty.rollout.collect import check_roles, collect, group_rollouts, plan_groups, waited_s
from banty.rollout.driver import run_episode
from banty.rollout.order import ExactOrder, FreeOrder, Order
from banty.rollout.replay import replay
from banty.rollout.store import SCHEMA_VERSION, Store
from banty.rollout.stored import stored_rollouts

__all__ = [
    "SCHEMA_VERSION",
    "Cast",
    "ExactOrder",
    "FreeOrder",
    "Order",
    "Store",
    "check_roles",
    "collect",
    "group_rollouts",
    "plan_groups",
    "replay",
    "run_episode",
    "stored_rollouts",
    "waited_s",
]
