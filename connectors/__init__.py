"""Feeds of cities: how they are reached, and what their bytes say. A package by name, since ``benchmarks/connectors.py`` lies on the path of scripts beside it."""
