"""Sessions without a server: identity map, unit of work, flush order, loading for all siblings."""

from .changes import Frame
from .core import SessionCore
from .results import ChangeResult
from .schema import create_all, drop_all

__all__ = ["ChangeResult", "Frame", "SessionCore", "create_all", "drop_all"]
