"""Pictures of the line's parts, for every page that shows one."""
