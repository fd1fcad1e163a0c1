"""Benchmarks: how fast this server is, compared to what a user could use instead.

`python -m benchmarks` runs them; docs/performance.md says what is measured and how.
"""
