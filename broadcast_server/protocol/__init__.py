"""The wire protocol, pure: what clients and servers send each other, and what is valid."""
