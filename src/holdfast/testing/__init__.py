"""Helps for tests: the suite that every driver must pass.

Rule: nothing here is needed to run a program.
"""
