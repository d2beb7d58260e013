"""How many bytes a model takes on every device, before it is loaded or converted."""
