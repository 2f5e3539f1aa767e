"""What a run is on disk: its recipe, its manifest, its metrics, its folder."""

from banty.runs.folder import RunFolder
from banty.runs.metrics import MetricLog, read_metrics
from banty.runs.recipe import from_mapping, load_recipe, to_mapping, with_overrides

__all__ = ["MetricLog", "RunFolder", "from_mapping", "load_recipe", "read_metrics", "to_mapping", "with_overrides"]
