"""Labelled tables: read, summarised, divided."""
