"""Rows → objects: the template that makes a row function for each plan."""

from .meet import meet, start_collection
from .template import row_function

__all__ = ["meet", "row_function", "start_collection"]
