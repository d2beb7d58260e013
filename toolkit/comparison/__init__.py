"""Models side by side: what each takes, what it loses, how fast it is, and which one to take."""
