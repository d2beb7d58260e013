"""`show_architecture`: the table of tensors of an architecture, and what its config may say."""

from dataclasses import dataclass

from toolkit.architectures import known_architectures
from toolkit.architectures.parts.base import Architecture
from toolkit.errors import InputError
from toolkit.reporter import Reporter
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class ShowArchitectureRequest:
    """A name of an architecture."""

    name: str
    """class or `model_type` of config.json, or `general.architecture` of a GGUF file; upper and lower case are alike"""


@dataclass(frozen=True)
class ShowArchitectureResult:
    """The architectures that bear a name: one, or several model classes that share it."""

    architectures: tuple[Architecture, ...]


@verb(ShowArchitectureRequest)
def show_architecture(request: ShowArchitectureRequest, _reporter: Reporter) -> ShowArchitectureResult:
    """Show how the tensors of a checkpoint become those of a GGUF file.

    ```python
    (orion,) = toolkit.show_architecture("orion").architectures
    print([(rule.source, rule.target) for rule in orion.tensors])
    ```

    Raises InputError for a name that no architecture has.
    """
    name = request.name.lower()
    for names_of in (_model_types, _classes, _gguf_names):
        architectures = tuple(known for known in known_architectures() if name in map(str.lower, names_of(known)))
        if architectures:
            return ShowArchitectureResult(architectures)
    raise InputError(
        f"no architecture has the class, model type or name {request.name!r}; `gguf-toolkit architectures` lists them"
    )


def _model_types(known: Architecture) -> tuple[str, ...]:
    return known.model_types


def _classes(known: Architecture) -> tuple[str, ...]:
    return known.hf_classes


def _gguf_names(known: Architecture) -> tuple[str, ...]:
    return (known.name,)
