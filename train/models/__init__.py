"""Models and optimizers, for the tasks only."""
