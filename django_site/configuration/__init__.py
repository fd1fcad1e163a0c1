"""What the settings are read from: environment variables, addresses and the key file."""
