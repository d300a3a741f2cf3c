"""When the next request may leave: one schedule for everything that uses an account."""
