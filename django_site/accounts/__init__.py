"""Accounts: who may sign in, and the tokens by which their programs do."""
