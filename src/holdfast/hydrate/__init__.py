"""Rows → objects: the template that makes a row function for each plan."""

from .meet import meet, renew, start_collection
from .template import hydrate, row_function

__all__ = ["hydrate", "meet", "renew", "row_function", "start_collection"]
