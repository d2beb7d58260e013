"""What families are made of: rules of tensors, lengths, transforms, metadata, and checks."""
