"""From a Hugging Face checkpoint and a VRAM budget to a GGUF file that fits, with proof of what it costs.

Every command of `gguf-toolkit` is a function here, which takes the fields of its request and returns a result:

    import toolkit

    result = toolkit.verify("model-Q4_K_M.gguf", source="./model")

With a request and a reporter, it also says what it is doing: `toolkit.verify(toolkit.VerifyRequest(...), reporter)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_VERBS = (
    "bench",
    "compare",
    "convert",
    "convert_lora",
    "doctor",
    "fit",
    "imatrix",
    "inspect",
    "kld",
    "list_architectures",
    "merge",
    "perplexity",
    "plan",
    "profiles",
    "quantize",
    "run",
    "show_architecture",
    "show_profile",
    "verify",
)
_MODULES = {
    name: f"toolkit.verbs.{verb}"
    for verb in _VERBS
    for name in (verb, *("".join(map(str.title, verb.split("_"))) + kind for kind in ("Request", "Result")))
} | {"Reporter": "toolkit.reporter", "Sweep": "toolkit.verbs.plan", "ToolkitError": "toolkit.errors"}

__all__ = ["__version__", *_MODULES]  # noqa: PLE0604  # they are strings

if TYPE_CHECKING:
    from toolkit.errors import ToolkitError as ToolkitError
    from toolkit.reporter import Reporter as Reporter
    from toolkit.verbs.bench import BenchRequest as BenchRequest
    from toolkit.verbs.bench import BenchResult as BenchResult
    from toolkit.verbs.bench import bench as bench
    from toolkit.verbs.compare import CompareRequest as CompareRequest
    from toolkit.verbs.compare import CompareResult as CompareResult
    from toolkit.verbs.compare import compare as compare
    from toolkit.verbs.convert import ConvertRequest as ConvertRequest
    from toolkit.verbs.convert import ConvertResult as ConvertResult
    from toolkit.verbs.convert import convert as convert
    from toolkit.verbs.convert_lora import ConvertLoraRequest as ConvertLoraRequest
    from toolkit.verbs.convert_lora import ConvertLoraResult as ConvertLoraResult
    from toolkit.verbs.convert_lora import convert_lora as convert_lora
    from toolkit.verbs.doctor import DoctorRequest as DoctorRequest
    from toolkit.verbs.doctor import DoctorResult as DoctorResult
    from toolkit.verbs.doctor import doctor as doctor
    from toolkit.verbs.fit import FitRequest as FitRequest
    from toolkit.verbs.fit import FitResult as FitResult
    from toolkit.verbs.fit import fit as fit
    from toolkit.verbs.imatrix import ImatrixRequest as ImatrixRequest
    from toolkit.verbs.imatrix import ImatrixResult as ImatrixResult
    from toolkit.verbs.imatrix import imatrix as imatrix
    from toolkit.verbs.inspect import InspectRequest as InspectRequest
    from toolkit.verbs.inspect import InspectResult as InspectResult
    from toolkit.verbs.inspect import inspect as inspect
    from toolkit.verbs.kld import KldRequest as KldRequest
    from toolkit.verbs.kld import KldResult as KldResult
    from toolkit.verbs.kld import kld as kld
    from toolkit.verbs.list_architectures import ListArchitecturesRequest as ListArchitecturesRequest
    from toolkit.verbs.list_architectures import ListArchitecturesResult as ListArchitecturesResult
    from toolkit.verbs.list_architectures import list_architectures as list_architectures
    from toolkit.verbs.merge import MergeRequest as MergeRequest
    from toolkit.verbs.merge import MergeResult as MergeResult
    from toolkit.verbs.merge import merge as merge
    from toolkit.verbs.perplexity import PerplexityRequest as PerplexityRequest
    from toolkit.verbs.perplexity import PerplexityResult as PerplexityResult
    from toolkit.verbs.perplexity import perplexity as perplexity
    from toolkit.verbs.plan import PlanRequest as PlanRequest
    from toolkit.verbs.plan import PlanResult as PlanResult
    from toolkit.verbs.plan import Sweep as Sweep
    from toolkit.verbs.plan import plan as plan
    from toolkit.verbs.profiles import ProfilesRequest as ProfilesRequest
    from toolkit.verbs.profiles import ProfilesResult as ProfilesResult
    from toolkit.verbs.profiles import profiles as profiles
    from toolkit.verbs.quantize import QuantizeRequest as QuantizeRequest
    from toolkit.verbs.quantize import QuantizeResult as QuantizeResult
    from toolkit.verbs.quantize import quantize as quantize
    from toolkit.verbs.run import RunRequest as RunRequest
    from toolkit.verbs.run import RunResult as RunResult
    from toolkit.verbs.run import run as run
    from toolkit.verbs.show_architecture import ShowArchitectureRequest as ShowArchitectureRequest
    from toolkit.verbs.show_architecture import ShowArchitectureResult as ShowArchitectureResult
    from toolkit.verbs.show_architecture import show_architecture as show_architecture
    from toolkit.verbs.show_profile import ShowProfileRequest as ShowProfileRequest
    from toolkit.verbs.show_profile import ShowProfileResult as ShowProfileResult
    from toolkit.verbs.show_profile import show_profile as show_profile
    from toolkit.verbs.verify import VerifyRequest as VerifyRequest
    from toolkit.verbs.verify import VerifyResult as VerifyResult
    from toolkit.verbs.verify import verify as verify
else:

    def __getattr__(name: str) -> Any:
        """Import what is asked for when it is asked for, so that `import toolkit` is light."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
