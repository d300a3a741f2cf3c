"""Links from a task to its pictures."""
