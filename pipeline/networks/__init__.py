"""Adaptive depth networks: plain torch and timm, nothing else of this project.

The folder is shipped inside registered models, so its imports stay relative and few.
"""

from .adaptive import AdaptiveDepthNetwork, NetworkDescription
from .profiles import DepthProfile

__all__ = ["AdaptiveDepthNetwork", "DepthProfile", "NetworkDescription"]
