"""What a batch is asked for: prompts from a list or a file, streamed, all of them checked before anything is paid."""
