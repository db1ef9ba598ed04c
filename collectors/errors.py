"""What can go wrong with collectors."""


class CollectorError(RuntimeError):
    """A collector failed, died or hangs; the message holds its own traceback where there is one."""


class EvaluationError(RuntimeError):
    """An episode of an evaluation failed, died or took too long; the message holds its own traceback if it has one."""
