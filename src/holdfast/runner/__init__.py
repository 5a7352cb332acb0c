"""Drives the generators of the thinking rooms: blocking, on an event loop, or on canned answers.

Rule: a runner knows steps, and neither drivers nor pools but by their shape.
"""

from holdfast.runner.async_ import AsyncRunner
from holdfast.runner.drive import Teller
from holdfast.runner.replay import replay
from holdfast.runner.sync import SyncRunner
from holdfast.runner.thread import AsyncThreadRunner, Worker

__all__ = ["AsyncRunner", "AsyncThreadRunner", "SyncRunner", "Teller", "Worker", "replay"]
