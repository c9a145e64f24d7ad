"""Trajectories of the prior, when they halt, which answer is taken."""
