"""Training runs: queueing, carrying out, watching, and putting an inspector to use."""
