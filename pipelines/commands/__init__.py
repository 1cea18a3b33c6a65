"""One module for each verb of the command line, each holding a click command named `command`."""
