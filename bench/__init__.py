"""Holdfast timed against the bare drivers and SQLAlchemy's ORM: ``python -m bench``.

Rule: nothing here passes or fails on a time.  What is fair is written in ``README.md`` beside this file.
"""
