"""Admission control: which clients may join, and how many and how fast from one address."""
