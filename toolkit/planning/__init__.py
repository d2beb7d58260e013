"""Which file, split, context and KV types run best in a budget."""
