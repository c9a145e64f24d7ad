"""Figures of a trained model: metrics, bounds, features, calibration."""
