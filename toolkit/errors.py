"""Every error that the toolkit raises on purpose.

    ToolkitError                 exit code
    ├── QualityError             1   a measured result fails its threshold
    │   └── NotFiniteError           logits are NaN or infinite, so that there is no result
    ├── FidelityError            1   a file is not what its source says
    ├── InputError               2   usage, or input that cannot be used
    │   ├── CheckpointError          files of a checkpoint: missing, truncated, malformed
    │   ├── ConfigError              config.json contradicts itself, the weights, or what is supported
    │   ├── MetadataError            a value that no metadata key of a GGUF file can hold
    │   ├── TensorError              a tensor is missing, surplus, of the wrong shape or dtype, or not finite
    │   ├── TokenizerError           no vocabulary, or one that is not understood
    │   ├── ProfileError             a quantization profile or a --tensor-type rule
    │   ├── GgufError                a GGUF file that is damaged or not understood
    │   ├── ImatrixError             an importance matrix that is damaged or of another model
    │   └── TextError                evaluation text that is missing or too short
    ├── DoesNotFitError          3   no plan fits the budget
    └── EnvironmentFaultError    4   the machine: a library, disk space, permissions
        ├── CrashError               native code was ended by a signal, and no file is at fault
        ├── HubError                 the Hugging Face hub cannot be reached, or refuses
        └── OutputError              the output cannot be written there

A message is one line: what was read, what was expected, what was found, what to do.
"""


class ToolkitError(Exception):
    """Base of all errors that end a command with one line on stderr and `exit_code`."""

    exit_code = 2


class QualityError(ToolkitError):
    """A measured result fails the threshold that was asked for."""

    exit_code = 1


class NotFiniteError(QualityError):
    """Logits are NaN or infinite; `suspected_tensors` are those whose weights may be why."""

    def __init__(self, message: str, suspected_tensors: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.suspected_tensors = suspected_tensors


class FidelityError(ToolkitError):
    """A file is not what its source says."""

    exit_code = 1


class InputError(ToolkitError):
    """Usage, or input that cannot be used."""


class CheckpointError(InputError):
    """A file of a checkpoint is missing, truncated or malformed."""


class ConfigError(InputError):
    """config.json contradicts itself, the weights, or what is supported."""


class MetadataError(InputError):
    """A value is not of the kind or in the range that a metadata key of a GGUF file holds."""


class TensorError(InputError):
    """A tensor is missing, surplus, of the wrong shape or dtype, or not finite."""


class TokenizerError(InputError):
    """The vocabulary is absent or not understood."""


class ProfileError(InputError):
    """A quantization profile or an override rule is wrong."""


class GgufError(InputError):
    """A GGUF file is damaged or not understood."""


class ImatrixError(InputError):
    """An importance matrix is damaged or belongs to another model."""


class TextError(InputError):
    """Evaluation text is missing or too short."""


class DoesNotFitError(ToolkitError):
    """No plan fits the budget."""

    exit_code = 3


class EnvironmentFaultError(ToolkitError):
    """The machine lacks something: a library, disk space, a permission."""

    exit_code = 4


class CrashError(EnvironmentFaultError):
    """Native code was ended by a signal, and no file is at fault."""


class HubError(EnvironmentFaultError):
    """The Hugging Face hub cannot be reached, or refuses."""


class OutputError(EnvironmentFaultError):
    """The output cannot be written where it was asked for."""
