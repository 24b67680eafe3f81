"""The list of inspectors, and the page of one."""
