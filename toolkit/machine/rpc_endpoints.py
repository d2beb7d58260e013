"""Endpoints of llama.cpp's RPC servers, which have no authentication: they belong on a network that is trusted."""

import ipaddress
import socket
import struct
from dataclasses import dataclass

from toolkit.errors import EnvironmentFaultError, InputError

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
_HELLO = struct.pack("<BQ24x", 14, 24)
"""`RPC_CMD_HELLO` with no capabilities; source: ggml/src/ggml-rpc/ggml-rpc.cpp of llama.cpp (commit 0c1e570)"""


@dataclass(frozen=True)
class RpcEndpoint:
    """A server's address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str, *, insecure: bool = False) -> RpcEndpoint:
    """Return the endpoint that HOST:PORT stands for.

    Raises InputError if it is none, or its host is neither this machine nor in a private network, unless `insecure`.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"{text!r} is not an RPC server; write it as HOST:PORT, for example 192.168.1.20:50052")
    endpoint = RpcEndpoint(host, int(port))
    outside = [] if insecure else [address for address in _addresses(endpoint) if not _is_private(address)]
    if outside:
        raise InputError(
            f"{endpoint} is at {outside[0]}, which is no private address; llama.cpp's RPC server has no authentication and "
            "sees every token: use a private network or a tunnel (--rpc-insecure goes on all the same)"
        )
    return endpoint


def check_reachable(endpoint: RpcEndpoint, answer_seconds: float = ANSWER_SECONDS) -> None:
    """Return if a server listens at an endpoint and has time for us.

    A server has one client at a time, and whoever comes second would wait in native code without end.

    Raises EnvironmentFaultError if none does; ggml itself would abort the process.
    """
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=CONNECT_SECONDS) as connection:
            connection.settimeout(answer_seconds)
            connection.sendall(_HELLO)
            # Whatever it says, or that it hangs up: ggml will talk to it, and judges its version.
            connection.recv(1)
    except TimeoutError as error:
        raise EnvironmentFaultError(
            f"the RPC server at {endpoint} does not answer within {answer_seconds:g} s; it has one client at a time: wait until "
            "another program is done with it, or leave it out"
        ) from error
    except ConnectionResetError:
        return
    except OSError as error:
        raise EnvironmentFaultError(
            f"no RPC server answers at {endpoint} ({error}); start rpc-server there, or leave it out"
        ) from error


def _addresses(endpoint: RpcEndpoint) -> list[str]:
    try:
        return [ipaddress.ip_address(endpoint.host).compressed]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{endpoint}: the host is not known ({error})") from error
    return sorted({str(entry[4][0]).partition("%")[0] for entry in found})


def _is_private(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_link_local or (parsed.is_private and not parsed.is_unspecified)
