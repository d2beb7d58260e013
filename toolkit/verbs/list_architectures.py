"""`list_architectures`: which model classes convert, and which are refused."""

from dataclasses import dataclass

from toolkit.architectures import architecture_families
from toolkit.architectures.refused import REFUSED
from toolkit.reporter import Reporter
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class ListArchitecturesRequest:
    """Which architectures are listed."""

    text: str | None = None
    """only those whose family, class, model type or name contains this"""


@dataclass(frozen=True)
class ListedArchitecture:
    """An architecture that converts."""

    family: str
    name: str
    """`general.architecture` of the GGUF file"""
    classes: tuple[str, ...]
    """in `architectures` of config.json"""
    model_types: tuple[str, ...]
    rope_types: tuple[str, ...]
    compared: bool
    """whether a checkpoint of it was compared with what llama.cpp's own converter makes of it"""


@dataclass(frozen=True)
class ListArchitecturesResult:
    """The architectures that convert, family by family, and the classes that do not, with the reason."""

    known: tuple[ListedArchitecture, ...]
    refused: dict[str, str]
    """class in config.json -> why"""


@verb(ListArchitecturesRequest)
def list_architectures(request: ListArchitecturesRequest, _reporter: Reporter) -> ListArchitecturesResult:
    """List the architectures that convert.

    ```python
    print([architecture.classes for architecture in toolkit.list_architectures("gemma").known])
    ```

    Raises nothing.
    """
    text = (request.text or "").lower()
    known = [
        ListedArchitecture(
            family,
            architecture.name,
            architecture.hf_classes,
            architecture.model_types,
            tuple(name for name in architecture.rope_types if name != "local"),
            architecture.is_compared,
        )
        for family, members in architecture_families().items()
        for architecture in members
    ]
    refused = sorted(REFUSED.items(), key=lambda item: item[0].lower())
    return ListArchitecturesResult(
        tuple(architecture for architecture in known if text in _searched(architecture)),
        {name: reason for name, reason in refused if text in name.lower()},
    )


def _searched(architecture: ListedArchitecture) -> str:
    names = (architecture.family, architecture.name, *architecture.classes, *architecture.model_types)
    return " ".join(names).lower()
