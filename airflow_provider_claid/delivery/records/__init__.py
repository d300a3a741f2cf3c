"""What was paid for, written down before it is sent: so that no crash, retry or restart pays again."""
