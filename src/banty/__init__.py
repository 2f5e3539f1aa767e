"""Banty turns a small open language model into a dependable multi-turn tool-using agent."""

__version__ = "0.1.0"
