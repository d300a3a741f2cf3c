"""Claid's HTTP contract: what is sent, what comes back, and what each failure means for the bill."""
