"""What a comparison was measured with."""

import platform
import sys

from toolkit.comparison.rows import Machine
from toolkit.llama.ggml_devices import offload_devices
from toolkit.machine.gpus import gpu_names
from toolkit.machine.host import installed_version, physical_cores, processor_line, read_ram

_DISTRIBUTIONS = ("gguf-toolkit", "llama-cpp-python", "numpy")


def this_machine() -> Machine:
    """Return what there is to measure with here."""
    versions = {"Python": sys.version.split()[0]} | {name: installed_version(name) for name in _DISTRIBUTIONS}
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    processor = f"{processor_name()}, {physical_cores()} cores"
    return Machine(system, processor, gpu_names(), read_ram().total_bytes, versions)


def measured_on() -> str:
    """Return what computes: the GPUs that llama.cpp can offload to, or the CPU."""
    names = ", ".join(device.description or device.name for device in offload_devices())
    return names or "the CPU"


def processor_name() -> str:
    """Return the processor's own name for itself."""
    return processor_line("model name").partition(":")[2].strip() or platform.processor() or platform.machine()
