"""Environments: the base classes their authors use, and the desks that ship with Banty."""

from banty.envs.state import State, World
from banty.envs.tasksets import Tasks
from banty.envs.toolenv import ToolEnv, tool

__all__ = ["State", "Tasks", "ToolEnv", "World", "tool"]
