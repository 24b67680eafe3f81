"""The guarantee put to the test, with nothing but random numbers. ``make guarantee`` runs it."""
