"""Waiting for pictures: where they are, whether they are whole, and which of them are new. Costs no credits."""
