"""The station page: the latest verdict, live."""
