"""Takes for ever to import, like torch on a busy machine."""

import time

from buffers.children import watching_parent

with watching_parent():
    time.sleep(600)
