"""Fault injection: a simulated environment that breaks, clients of six kinds, and a checker."""
