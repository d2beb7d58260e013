"""What lies in a checkpoint: configs, and tensors in every container."""
