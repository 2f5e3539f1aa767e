"""The handmade airline, and tau2-bench's own data where it is at hand."""

from tests.envs.airline.conftest import small_db, small_world, tau2_folder, tau2_tasks, tau2_world, verified_tasks

__all__ = ["small_db", "small_world", "tau2_folder", "tau2_tasks", "tau2_world", "verified_tasks"]
