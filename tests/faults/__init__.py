"""Faults: what is promised when things break, a world that breaks, and whether it held."""
