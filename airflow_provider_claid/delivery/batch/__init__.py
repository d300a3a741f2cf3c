"""Many jobs in one event loop: their prompts, what is recorded of them, and what became of each."""
