"""A Claid on this machine: the text-to-image contract over HTTP, real pictures, faults on demand."""
