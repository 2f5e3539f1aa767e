"""What a run is on disk: its recipe, its manifest, its metrics, its folder."""

from banty.runs.folder import RunFolder, check_free
from banty.runs.metrics import MetricLog, read_metrics
from banty.runs.recipe import from_mapping, load_recipe, read_recipe, to_mapping, toml_value, with_overrides

__all__ = [
    "MetricLog",
    "RunFolder",
    "check_free",
    "from_mapping",
    "load_recipe",
    "read_metrics",
    "read_recipe",
    "to_mapping",
    "toml_value",
    "with_overrides",
]
