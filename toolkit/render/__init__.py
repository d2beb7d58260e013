"""What is shown of results: text, JSON, HTML, CSV and Markdown. Nothing here prints, computes or reads a model."""
