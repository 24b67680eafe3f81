"""The checker of annotations that tests run with: an int is accepted where a float is expected, as type checkers do."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
