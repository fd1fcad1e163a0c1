"""The database: every SQL statement about rooms, and the notifications that follow a commit."""
