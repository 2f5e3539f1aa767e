"""The habit desk: training a habit policy on decision trees, a thousand seeds in seconds, with exact success.

With a habit policy an episode is a function of the task and the decisions drawn in it. So the tree of decisions of a
task is played once, through the real driver, environment and expert, and every episode of it is one of its leaves.
"""

from banty.desk.batch import Batch, batch_credit
from banty.desk.bias import Bias, measure_bias
from banty.desk.exact import Exact
from banty.desk.simulate import Curves, Setting, gradients, sample_leaves, simulate
from banty.desk.tables import Desk, desk_of, load_desk, save_desk
from banty.desk.trees import Leaf, choose_trees, decision_tree

__all__ = [
    "Batch",
    "Bias",
    "Curves",
    "Desk",
    "Exact",
    "Leaf",
    "Setting",
    "batch_credit",
    "choose_trees",
    "decision_tree",
    "desk_of",
    "gradients",
    "load_desk",
    "measure_bias",
    "sample_leaves",
    "save_desk",
    "simulate",
]
