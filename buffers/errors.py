"""What can go wrong with memory and channels that processes share."""


class SharedMemoryError(RuntimeError):
    """There is not enough shared memory, or a slot is too small for what it must hold."""


class ChannelClosedError(RuntimeError):
    """The other side of a channel is gone."""


class BrokenOrderError(RuntimeError):
    """A fragment was lost, doubled, torn, or came out of order: what was collected cannot be trusted any more."""
