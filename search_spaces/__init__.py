"""What a search may change: YAML spaces, one a file, and the loader that checks them; imports no Ray."""

from .loader import load_space, shipped_spaces
from .space import SearchSpace

__all__ = ["SearchSpace", "load_space", "shipped_spaces"]
