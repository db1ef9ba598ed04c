"""The web page of a training run: what it is doing, and buttons that pause, resume and resize it.

It knows no other room: what it shows and what it may do come as functions.
"""

from dashboard.address import parse_address
from dashboard.errors import DashboardError
from dashboard.server import Dashboard

__all__ = ["Dashboard", "DashboardError", "parse_address"]
