"""Endpoints of llama.cpp's RPC servers, which have no authentication: they belong on a network that is trusted."""

import ipaddress
import socket
from dataclasses import dataclass

from toolkit.errors import EnvironmentFaultError, InputError

CONNECT_SECONDS = 2.0


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


def check_reachable(endpoint: RpcEndpoint) -> None:
    """Return if a server listens at an endpoint.

    Raises EnvironmentFaultError if none does; ggml itself would abort the process.
    """
    try:
        socket.create_connection((endpoint.host, endpoint.port), timeout=CONNECT_SECONDS).close()
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
