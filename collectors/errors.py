"""What can go wrong with collectors."""


class CollectorError(RuntimeError):
    """A collector failed, died or hangs; the message holds its own traceback where there is one."""


class GivenUpError(CollectorError):
    """Something failed too often to be tried again."""


class EvaluationError(RuntimeError):
    """An episode of an evaluation failed, died or took too long; the message holds its own traceback if it has one."""


class ControlError(RuntimeError):
    """The request is wrong, or the run could not do it."""


class NoRunError(RuntimeError):
    """Nobody answers in the folder."""


class RunInUseError(RuntimeError):
    """Another run works in the folder."""
