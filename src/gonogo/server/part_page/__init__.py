"""The page of a part: found by a search, with everything that is known about one verdict."""
