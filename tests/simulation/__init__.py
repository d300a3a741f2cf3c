"""Jobs, records and pacing in virtual time, on servers and stores that fail, delay, reorder and lose answers."""
