"""Where tau2-bench's own data lies, if it is at hand."""

from __future__ import annotations

from tests.envs.airline.conftest import tau2_folder

__all__ = ["tau2_folder"]
