"""Triggers that wait for pictures in the triggerer."""
