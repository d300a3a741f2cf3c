"""Assets of the scheme `storage`: folders of the storages that are connected to Claid."""
