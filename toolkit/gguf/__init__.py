"""The GGUF format: types, rows, headers, layout, reading, and files that appear whole or not at all."""
