"""From a prompt to pictures that last: the paid request, its pictures, and where they are put."""
