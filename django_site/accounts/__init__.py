"""Accounts: users that can sign in, and the tokens with which their programs do."""
