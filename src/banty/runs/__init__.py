"""What a run is on disk: its recipe, its manifest, its metrics, its folder."""

from banty.runs.folder import RunFolder, check_free, commit_of, write_text
from banty.runs.metrics import MetricLog, read_metrics, read_rows
from banty.runs.recipe import (
    from_mapping,
    load_recipe,
    read_recipe,
    to_mapping,
    toml_value,
    with_overrides,
    with_values,
)

__all__ = [
    "MetricLog",
    "RunFolder",
    "check_free",
    "commit_of",
    "from_mapping",
    "load_recipe",
    "read_metrics",
    "read_recipe",
    "read_rows",
    "to_mapping",
    "toml_value",
    "with_overrides",
    "with_values",
    "write_text",
]
