"""Where a model comes from: a checkpoint, a bare config, a GGUF file, another converter."""
