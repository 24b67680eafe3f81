"""The page Sizes of a data set: the scale in mm, limits on defects, and inspectors that check them."""
