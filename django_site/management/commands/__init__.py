"""One module for each command. Its name is the command's."""
