"""The command line: the only part of the project that knows Hydra, prints, and exits."""
