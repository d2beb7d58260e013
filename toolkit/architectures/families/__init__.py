"""A file a family, named as the checkpoint's model_type."""
