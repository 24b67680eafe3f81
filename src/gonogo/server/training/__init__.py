"""Training runs: queue, execution, progress, deployment."""
