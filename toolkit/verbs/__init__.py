"""What the toolkit does, a module a verb: a request, one function, a result."""
