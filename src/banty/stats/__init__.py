"""Pure statistics over arrays: intervals, paired tests, pass@k and pass^k, power, agreement.

Nothing here knows what a rollout is. Tasks are the independent units, a missing score is None or NaN and is left out,
and an average over nothing is None.
"""

from banty.stats.agreement import pearson_correlation, phi_coefficient
from banty.stats.intervals import (
    Interval,
    bootstrap_interval,
    clopper_pearson_interval,
    clustered_interval,
    interval_over_tasks,
    wilson_interval,
)
from banty.stats.noise import (
    EvaluationNoise,
    ReplicateNoise,
    Resolution,
    evaluation_noise,
    replicate_noise,
    resolution,
)
from banty.stats.paired import (
    Comparison,
    Verdict,
    compare_on_tasks,
    compare_over_seeds,
    mcnemar_p_value,
    sign_flip_p_value,
)
from banty.stats.passes import (
    PassEstimate,
    largest_k,
    pass_at_k,
    pass_at_k_of_task,
    pass_hat_k,
    pass_hat_k_of_task,
)
from banty.stats.power import (
    detectable_difference,
    detectable_effect,
    detectable_shift,
    t_test_power,
    tasks_needed,
)
from banty.stats.ratios import ratio_interval
from banty.stats.seeds import seed_difference_interval, seed_interval
from banty.stats.trials import paired_differences, task_means, variance_over_tasks

__all__ = [
    "Comparison",
    "EvaluationNoise",
    "Interval",
    "PassEstimate",
    "ReplicateNoise",
    "Resolution",
    "Verdict",
    "bootstrap_interval",
    "clopper_pearson_interval",
    "clustered_interval",
    "compare_on_tasks",
    "compare_over_seeds",
    "detectable_difference",
    "detectable_effect",
    "detectable_shift",
    "evaluation_noise",
    "interval_over_tasks",
    "largest_k",
    "mcnemar_p_value",
    "paired_differences",
    "pass_at_k",
    "pass_at_k_of_task",
    "pass_hat_k",
    "pass_hat_k_of_task",
    "pearson_correlation",
    "phi_coefficient",
    "ratio_interval",
    "replicate_noise",
    "resolution",
    "seed_difference_interval",
    "seed_interval",
    "sign_flip_p_value",
    "t_test_power",
    "task_means",
    "tasks_needed",
    "variance_over_tasks",
    "wilson_interval",
]
