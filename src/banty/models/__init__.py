"""Weights: what they are, how they are loaded."""
