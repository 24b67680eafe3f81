"""The data set pages and picture uploads."""
