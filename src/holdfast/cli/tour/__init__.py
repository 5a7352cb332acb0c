"""What `holdfast demo` shows: a tour of Holdfast on the Python packages installed on this machine."""

from .place import Place, open_place
from .screen import Screen
from .stage import Outcome, Stage, totals

__all__ = ["Outcome", "Place", "Screen", "Stage", "open_place", "totals"]
