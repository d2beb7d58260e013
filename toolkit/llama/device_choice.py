"""Which of ggml's devices settings mean: this machine's GPUs, RPC servers, or a stand-in for a GPU."""

from toolkit.errors import EnvironmentFaultError, InputError
from toolkit.llama.ggml_devices import GgmlDevice, offload_devices
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.native import llama_cpp
from toolkit.llama.stand_in import MAX_STAND_INS, add_rpc_devices, stand_in_devices

RPC_WAIT_SECONDS = 3.0
STAND_IN = "a stand-in for a GPU"


def choose_devices(settings: LoadSettings) -> tuple[tuple[GgmlDevice, ...], str]:
    """Return the devices to offload to, GPUs before servers, and words for them; a server is registered with ggml.

    Raises EnvironmentFaultError if there is no such GPU or a server does not answer, InputError for too many GPUs.
    """
    remote = tuple(device for endpoint in settings.rpc for device in add_rpc_devices(endpoint, RPC_WAIT_SECONDS))
    if settings.device == "cpu":
        return remote, _described(remote) if remote else "CPU"
    gpus = () if settings.device == "stand-in" else offload_devices()
    if settings.device == "gpu" and not gpus:
        raise EnvironmentFaultError(
            "llama-cpp-python sees no GPU here; reinstall it with your GPU's backend switched on"
        )
    if gpus:
        found = gpus[: settings.n_devices] + remote
        return found, _described(found)
    found = stand_in_devices()[: settings.n_devices] + remote
    if len(found) < settings.n_devices + len(remote):
        raise InputError(f"{settings.n_devices} GPUs are more than the {MAX_STAND_INS} that can be stood in for")
    return found, f"{STAND_IN} (llama.cpp's RPC device on this CPU)"


def supports_offload() -> bool:
    """Tell whether llama-cpp-python was built with a GPU backend that finds a GPU on this machine."""
    return bool(llama_cpp().llama_supports_gpu_offload()) and bool(offload_devices())


def _described(devices: tuple[GgmlDevice, ...]) -> str:
    return ", ".join(f"{device.name} ({device.description})" for device in devices)
