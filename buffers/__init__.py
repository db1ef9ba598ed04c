"""Moving experience between processes: slots, queue, weights channel, rolling cache.

No torch and no SUMO here: arrays in shared memory, and the words about them.
"""

from buffers.continuity import Continuity
from buffers.errors import BrokenOrderError, ChannelClosedError, SharedMemoryError
from buffers.fragments import Decision, Fragment, FragmentWriter, fragment_layout, read_fragment
from buffers.queue import END, Announcement, AnnouncementQueue, Doorbell
from buffers.rolling import RollingCache
from buffers.slots import Slots, State
from buffers.weights import WeightsChannel

__all__ = [
    "END",
    "Announcement",
    "AnnouncementQueue",
    "BrokenOrderError",
    "ChannelClosedError",
    "Continuity",
    "Decision",
    "Doorbell",
    "Fragment",
    "FragmentWriter",
    "RollingCache",
    "SharedMemoryError",
    "Slots",
    "State",
    "WeightsChannel",
    "fragment_layout",
    "read_fragment",
]
