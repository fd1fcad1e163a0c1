"""How the single file imports itself: from memory, and compiled by an earlier start."""
