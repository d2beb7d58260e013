"""What this machine has, and what is remembered on it."""
