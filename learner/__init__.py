"""Learning from batches: V-trace, losses, update step, checkpoints, metrics, what a person sees."""
