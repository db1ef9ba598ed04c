"""Harm, done on purpose to real runs, and what must hold all the same: ``python -m chaos``, ``docs/reliability.md``."""
