"""What benchmarks, chaos and results have in common: parts by the command line, what is kept, and the page."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""
