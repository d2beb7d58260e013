"""A device that stands in for a GPU: llama.cpp's RPC backend, served by this machine's CPU on the loopback interface.

It has model, KV and compute buffers of its own, so a split between a GPU and the CPU can be asked for, and run,
where there is no GPU. The server is reachable by this machine's other users while it runs.
"""

import ctypes
import socket
import threading
import time
from functools import cache

from toolkit.errors import EnvironmentFaultError
from toolkit.llama.ggml_devices import DeviceKind, GgmlDevice, describe_device, list_ggml_devices
from toolkit.llama.native import POINTER, SIZE, TEXT, declared, ggml_library

LOOPBACK = "127.0.0.1"
_WAIT_SECONDS = 30.0
MAX_STAND_INS = 8
"""llama.cpp takes up to 16 devices; who plans for more than this has them"""


@cache
def stand_in_devices() -> tuple[GgmlDevice, ...]:
    """Return the stand-ins of this process, starting their server in a thread; they last as long as the process.

    Raises EnvironmentFaultError if llama-cpp-python was built without RPC, or the server does not start.
    """
    ggml_library("ggml-rpc")
    endpoint = f"{LOOPBACK}:{free_port()}"
    threading.Thread(target=serve, args=(endpoint, 1, MAX_STAND_INS), daemon=True).start()
    return add_rpc_devices(endpoint)


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


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


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
