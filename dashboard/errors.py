"""What can go wrong with the page of a run."""


class DashboardError(RuntimeError):
    """The page cannot be served at the address that was asked for."""


class RunFaultError(RuntimeError):
    """The run failed to say or to do what the page asked it, or took too long."""
