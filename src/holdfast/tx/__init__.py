"""Transactions: how they begin on each server, and savepoints."""

from .scope import Scope, begin_sql

__all__ = ["Scope", "begin_sql"]
