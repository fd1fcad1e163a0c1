"""Moderation: the actions of moderators, and the group that has the permissions for them."""
