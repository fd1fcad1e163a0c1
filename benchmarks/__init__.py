"""The benchmark: how fast this server is, beside what a user would take instead.

`python -m benchmarks` runs it; docs/performance.md says what it measures and how.
"""
