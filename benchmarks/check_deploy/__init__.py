"""Checks of everything in deploy/; see `check_deploy.__main__`."""
