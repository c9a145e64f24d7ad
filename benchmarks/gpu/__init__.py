"""Benchmarks that want a GPU, and what they share; README.md says what each is for."""
