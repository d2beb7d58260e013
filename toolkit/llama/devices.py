"""The devices that settings mean: this machine's GPUs, RPC servers, or simulated devices where there is no GPU.

A simulated device is llama.cpp's RPC backend, served by this machine's CPU on the loopback interface. It has model, KV and
compute buffers of its own, so a split between a GPU and the CPU can be asked for, and run, where there is no GPU. The
server is reachable by this machine's other users while it runs.
"""

import ctypes
import socket
import threading
import time
from functools import cache

from toolkit.errors import EnvironmentFaultError, InputError
from toolkit.llama.ggml_devices import DeviceKind, GgmlDevice, describe_device, list_ggml_devices, offload_devices
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.native import POINTER, SIZE, TEXT, declared, ggml_library, llama_cpp
from toolkit.machine.host import own_listening_ports

LOOPBACK = "127.0.0.1"
_WAIT_SECONDS = 30.0
RPC_WAIT_SECONDS = 3.0
MAX_SIMULATED = 8
"""llama.cpp takes up to 16 devices; who plans for more than this has them"""
SIMULATED = "a simulated device"


def choose_devices(settings: LoadSettings) -> tuple[tuple[GgmlDevice, ...], str]:
    """Return the devices to offload to, GPUs before servers, and their description; a server is registered with ggml.

    Raises EnvironmentFaultError if there is no such GPU or a server does not answer, InputError for too many GPUs.
    """
    remote = tuple(device for endpoint in settings.rpc for device in add_rpc_devices(endpoint, RPC_WAIT_SECONDS))
    if settings.device == "cpu":
        return remote, _description(remote) if remote else "CPU"
    gpus = () if settings.device == "simulated" else offload_devices()
    if settings.device == "gpu" and not gpus:
        raise EnvironmentFaultError(
            "llama-cpp-python sees no GPU here; reinstall it with your GPU's backend switched on"
        )
    if gpus:
        local = gpus[: settings.n_devices] + remote
        return local, _description(local)
    if settings.n_devices > MAX_SIMULATED:
        raise InputError(f"{settings.n_devices} GPUs are more than the {MAX_SIMULATED} that can be simulated")
    return simulated_devices()[: settings.n_devices] + remote, f"{SIMULATED} (llama.cpp's RPC device on this CPU)"


def supports_offload() -> bool:
    """Tell whether llama-cpp-python was built with a GPU backend that finds a GPU on this machine."""
    return bool(llama_cpp().llama_supports_gpu_offload()) and bool(offload_devices())


def _description(devices: tuple[GgmlDevice, ...]) -> str:
    return ", ".join(f"{device.name} ({device.description})" for device in devices)


@cache
def simulated_devices() -> tuple[GgmlDevice, ...]:
    """Return the simulated devices of this process, starting their server in a thread; they last as long as the process.

    Raises EnvironmentFaultError if llama-cpp-python was built without RPC, or the server does not start.
    """
    ggml_library("ggml-rpc")
    others = own_listening_ports(LOOPBACK)
    # Port 0: the system chooses while it binds. One that we chose before could be another process's by then, whose
    # devices would answer in the place of ours, and end.
    server = threading.Thread(target=serve, args=(f"{LOOPBACK}:0", 1, MAX_SIMULATED), daemon=True)
    server.start()
    return add_rpc_devices(f"{LOOPBACK}:{_port_of(server, others)}")


def _port_of(server: threading.Thread, others: set[int]) -> int:
    """Wait for the port that the server in a thread listens on, which is none of the `others` of this process.

    Raises EnvironmentFaultError if the server ends, or takes too long.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while server.is_alive() and time.monotonic() < deadline:
        ports = own_listening_ports(LOOPBACK) - others
        if ports:
            return ports.pop()
        time.sleep(0.01)
    raise EnvironmentFaultError(
        f"no simulated device could be served on {LOOPBACK}; give --vram 0 to plan for the CPU alone"
    )


def serve(endpoint: str, n_threads: int, n_devices: int = 1) -> None:
    """Serve this machine's CPU on `endpoint`, as many devices; prints to the C library's stdout.

    It never returns unless it fails.
    """
    rpc = declared("ggml-rpc", {"ggml_backend_rpc_start_server": (None, (TEXT, TEXT, SIZE, SIZE, POINTER))})
    cpu = next(device for device in list_ggml_devices() if device.kind == DeviceKind.CPU)
    devices = (ctypes.c_void_p * n_devices)(*[cpu.pointer] * n_devices)
    rpc.ggml_backend_rpc_start_server(endpoint.encode(), None, n_threads, n_devices, devices)


@cache
def add_rpc_devices(endpoint: str, wait_seconds: float = _WAIT_SECONDS) -> tuple[GgmlDevice, ...]:
    """Register the server at `endpoint` with ggml, waiting until it listens, and return its devices.

    Raises EnvironmentFaultError if nobody listens: ggml itself would abort the process.
    """
    wait_until_listening(endpoint, wait_seconds)
    rpc = declared("ggml-rpc", {"ggml_backend_rpc_add_server": (POINTER, (TEXT,))})
    ggml = declared("ggml", {"ggml_backend_register": (None, (POINTER,))})
    base = declared(
        "ggml-base",
        {"ggml_backend_reg_dev_count": (SIZE, (POINTER,)), "ggml_backend_reg_dev_get": (POINTER, (POINTER, SIZE))},
    )
    list_ggml_devices()
    registry = rpc.ggml_backend_rpc_add_server(endpoint.encode())
    if not registry:
        raise EnvironmentFaultError(f"the RPC server at {endpoint} offers no device; start rpc-server there with one")
    ggml.ggml_backend_register(registry)
    count = base.ggml_backend_reg_dev_count(registry)
    return tuple(describe_device(base.ggml_backend_reg_dev_get(registry, index)) for index in range(count))


def wait_until_listening(endpoint: str, wait_seconds: float = _WAIT_SECONDS) -> None:
    """Return once somebody listens at `endpoint`.

    Raises EnvironmentFaultError after `wait_seconds`.
    """
    host, _, port = endpoint.rpartition(":")
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise EnvironmentFaultError(f"no RPC server answers at {endpoint} ({error})") from error
            time.sleep(0.02)
