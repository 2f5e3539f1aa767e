"""Where tau2-bench's airline data lies for tests: beside the project, or where BANTY_TAU2_DATA says."""

from __future__ import annotations

import os
from pathlib import Path

PLACE = Path(os.environ.get("BANTY_TAU2_DATA") or Path(__file__).parents[2] / "shared" / "tau2_airline")
