"""A llama.cpp RPC device in a process of its own, and a process that runs a model on it.

A registered device stays for as long as its process lives, and a server that goes away takes its clients along; so
neither may happen in the process of the tests.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy
from numpy.typing import NDArray

from toolkit.llama.devices import LOOPBACK, wait_until_listening

_SERVE = "import sys; from toolkit.llama.devices import serve; serve(sys.argv[1], 1, int(sys.argv[2]))"
_EVALUATE = """
import json, os, sys
from pathlib import Path
from toolkit.llama.runtime import LlamaRuntime
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.devices import add_rpc_devices
endpoint, model, layers, tokens = sys.argv[1:]
device = add_rpc_devices(endpoint)[0]
settings = RunSettings(n_gpu_layers=int(layers), device_pointers=(device.pointer,), n_threads=1)
with LlamaRuntime(Path(model), settings) as runtime:
    print(json.dumps(runtime.evaluate(json.loads(tokens), slice(None)).tolist()))
"""
_ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


@contextmanager
def loopback_device(n_devices: int = 1) -> Iterator[str]:
    """Serve this machine's CPU as a device, or as several, and give the endpoint."""
    endpoint = f"{LOOPBACK}:{free_port()}"
    command = [sys.executable, "-c", _SERVE, endpoint, str(n_devices)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=_ROOT)
    try:
        wait_until_listening(endpoint)
        yield endpoint
    finally:
        server.kill()
        server.wait()


def evaluate_on(endpoint: str, model: Path, n_gpu_layers: int, tokens: Sequence[int]) -> NDArray[numpy.float32]:
    """Return the logits [n, n_vocab] of tokens with that many layers on the device at `endpoint`."""
    arguments = [endpoint, str(model), str(n_gpu_layers), json.dumps(list(tokens))]
    command = [sys.executable, "-c", _EVALUATE, *arguments]
    done = subprocess.run(command, capture_output=True, check=False, cwd=_ROOT, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return numpy.array(json.loads(done.stdout.splitlines()[-1]), numpy.float32)
