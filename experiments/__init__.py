"""Commands: one verb a file, thin over the library; ``python -m experiments.<verb> --help``."""
