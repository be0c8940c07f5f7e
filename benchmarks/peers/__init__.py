"""Other libraries: one file each. See `run.py --help` for what such a file holds."""
