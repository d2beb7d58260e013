"""From a source to a file: the plan of every tensor, and its execution."""
