"""Another chat template in place of a model's own."""

from dataclasses import replace
from pathlib import Path

from toolkit.gguf.format import Metadata
from toolkit.model_source import ModelSource
from toolkit.reporter import Reporter
from toolkit.tokenizer.chat_template import default_template, read_chat_template, with_chat_template


def metadata_with_template(metadata: Metadata, file: Path | str | None) -> Metadata:
    """Return the keys of a model, with the template in `file` if one is given."""
    return metadata if file is None else with_chat_template(metadata, read_chat_template(Path(file)))


def use_chat_template(source: ModelSource, file: Path | str | None, reporter: Reporter) -> ModelSource:
    """Return a model with the template in `file`, if one is given, and report that."""
    if file is None:
        return source
    had = "in place of the model's own" if default_template(source.metadata) else "where the model has none"
    reporter.note(f"the chat template is that of {file}, {had}")
    return replace(source, metadata=metadata_with_template(source.metadata, file))
