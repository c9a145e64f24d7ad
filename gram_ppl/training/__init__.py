"""Stochastic variational inference by deep-supervision segments."""
