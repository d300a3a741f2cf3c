"""Many jobs in one task: what their prompts are, and what became of each."""
