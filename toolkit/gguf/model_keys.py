"""The metadata of a model, asked by the keys of its architecture, without trust in the types of its values."""

from dataclasses import dataclass

from toolkit.gguf.format import Metadata


@dataclass(frozen=True)
class ModelKeys:
    """What metadata says of a model."""

    metadata: Metadata

    @property
    def architecture(self) -> str:
        """Return `general.architecture`, or nothing."""
        return self.text("general.architecture") or ""

    def text(self, key: str) -> str | None:
        """Return the text under a key, None if there is none."""
        found = self.metadata.get(key)
        return found.value if found is not None and isinstance(found.value, str) else None

    def number(self, key: str) -> int | None:
        """Return the integer under a whole key, None if there is none."""
        found = self.metadata.get(key)
        value = None if found is None else found.value
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def integer(self, suffix: str) -> int | None:
        """Return the integer under a key of the architecture, None if there is none."""
        return self.number(f"{self.architecture}.{suffix}")

    def count(self, suffix: str, default: int = 0) -> int:
        """Return the integer under a key of the architecture, `default` if there is none or it is negative."""
        found = self.integer(suffix)
        return default if found is None or found < 0 else found

    def each(self, suffix: str) -> tuple[int, ...] | None:
        """Return the integers of an array under a key of the architecture, None if there is none."""
        found = self.metadata.get(f"{self.architecture}.{suffix}")
        if found is None or not isinstance(found.value, tuple):
            return None
        return tuple(value for value in found.value if isinstance(value, int))

    def per_layer(self, suffix: str, n_layer: int) -> tuple[int, ...] | None:
        """Return a value for each layer, be it stored once or as an array; None if it is not stored for all."""
        values = self.each(suffix)
        if values is not None:
            return values[:n_layer] if len(values) >= n_layer else None
        value = self.integer(suffix)
        return None if value is None else (value,) * n_layer
