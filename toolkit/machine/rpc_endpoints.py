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


_TRUSTED = tuple(
    ipaddress.ip_network(text)
    # loopback, RFC 1918 and link-local; the same of IPv6, with RFC 4193
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Networks that nobody reaches from outside. `ipaddress.is_private` has more: documentation, 6to4, Teredo, class E."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class RpcEndpoint:
    """A server under the name that was given; its address is looked up once, so that connections go to the one that was checked."""

    host: str
    port: int
    ip: str = ""
    """of the host, where that is a name"""

    @property
    def address(self) -> str:
        """Return what to connect to, as llama.cpp takes it."""
        return _with_port(self.ip or self.host, self.port)

    def __str__(self) -> str:
        return _with_port(self.host, self.port)


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_endpoint(text: str, *, insecure: bool = False) -> RpcEndpoint:
    """Return the endpoint of HOST:PORT.

    Raises InputError if it is not one, or its host is neither this machine nor in a private network, unless `insecure`.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"{text!r} is not an RPC server; write it as HOST:PORT, for example 192.168.1.20:50052")
    addresses = _addresses(RpcEndpoint(host, int(port)))
    # Of several, one that is trusted, and of those one that llama.cpp can speak to.
    chosen = min(addresses, key=lambda address: (not _is_trusted(address), address.version))
    endpoint = RpcEndpoint(host, int(port), str(chosen))
    if not insecure and not _is_trusted(chosen):
        raise InputError(
            f"{endpoint} is at {chosen}, which is not a private address; llama.cpp's RPC server has no authentication and "
            "sees every token: use a private network or a tunnel (--rpc-insecure does it anyway)"
        )
    return endpoint


def check_reachable(endpoint: RpcEndpoint, answer_seconds: float = ANSWER_SECONDS) -> None:
    """Return if a server listens at an endpoint and has time for us.

    A server has one client at a time, and a second one would wait in native code without end.

    Raises EnvironmentFaultError if none answers; ggml itself would abort the process.
    """
    ip = endpoint.ip or endpoint.host
    if ":" in ip:
        raise EnvironmentFaultError(
            f"the RPC server at {endpoint} has an IPv6 address, and llama.cpp speaks IPv4 to servers"
        )
    try:
        with socket.create_connection((ip, endpoint.port), timeout=CONNECT_SECONDS) as connection:
            connection.settimeout(answer_seconds)
            connection.sendall(_HELLO)
            # Any answer will do, or the end of the connection: ggml will check the version itself.
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


def _addresses(endpoint: RpcEndpoint) -> list[_Address]:
    try:
        texts = [str(ipaddress.ip_address(endpoint.host))]
    except ValueError:
        try:
            entries = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise InputError(f"{endpoint}: the host is not known ({error})") from error
        texts = [str(entry[4][0]) for entry in entries]
    return [_unmapped(ipaddress.ip_address(text)) for text in texts]


def _unmapped(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address is another spelling of, else itself."""
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: _Address) -> bool:
    return any(address in network for network in _TRUSTED)
