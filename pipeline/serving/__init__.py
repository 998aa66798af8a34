"""What a registered version does where it predicts: read images, choose a depth, time it.

The folder is shipped inside registered models beside `networks`, so its imports stay relative and few.
"""

from .call import Call
from .choice import PARAMETERS, Wanted, choose
from .images import ImageReader
from .latencies import Latencies

__all__ = ["PARAMETERS", "Call", "ImageReader", "Latencies", "Wanted", "choose"]
