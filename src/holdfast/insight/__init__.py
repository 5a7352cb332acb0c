"""What a database does, told to whoever listens.

Rule: insight listens to the core; the core never calls it.
"""

from holdfast.insight.telemetry import instrument

__all__ = ["instrument"]
