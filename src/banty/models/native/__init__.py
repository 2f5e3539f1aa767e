"""Kernels of this package's own for machines without a GPU, compiled where they run if there is a C compiler.

Where there is none, or `BANTY_NATIVE=0` is set, torch's own operations do the same work.
"""
