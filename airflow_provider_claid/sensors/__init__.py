"""Sensors that wait for pictures."""
