"""One room in one process: a replica of the log and of the roster, kept up to date."""
