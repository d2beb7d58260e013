import socket

import pytest
from loopback_device import loopback_device

from toolkit.errors import EnvironmentFaultError, InputError
from toolkit.machine.rpc_endpoints import RpcEndpoint, check_reachable, parse_endpoint


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:50052", "192.168.1.20:50052", "10.0.0.1:1", "172.16.3.4:65535", "[::1]:50052", "localhost:50052"],
)
def test_this_machine_and_private_networks_are_trusted(text):
    assert str(parse_endpoint(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8:50052",
        "[2001:4860:4860::8888]:50052",
        "0.0.0.0:50052",
        "[::]:50052",
        "255.255.255.255:1",
        "240.0.0.1:1",
        "192.0.2.7:1",
        "198.18.0.1:1",
        "203.0.113.7:1",
        "100.64.0.1:1",
        "[2002:c0a8:101::1]:1",
        "[2001:0:c0a8:101::1]:1",
        "[2001:db8::1]:1",
        "[64:ff9b::c0a8:101]:1",
        "[::192.168.1.1]:1",
    ],
)
def test_other_addresses_are_refused_unless_asked_for(text):
    with pytest.raises(InputError, match=r"not a private address; .* no authentication .*--rpc-insecure"):
        parse_endpoint(text)
    assert str(parse_endpoint(text, insecure=True)) == text


@pytest.mark.parametrize("text", ["[fd00::1]:1", "[fe80::1]:1", "[fe80::1%lo]:1", "169.254.7.7:1", "[::1]:1"])
def test_private_networks_of_both_kinds_are_trusted(text):
    assert parse_endpoint(text).address == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:50052", "127.0.0.1:50052"),
        ("127.1:50052", "127.0.0.1:50052"),
        ("3232235777:1", "192.168.1.1:1"),
        ("[::ffff:192.168.1.1]:1", "192.168.1.1:1"),
    ],
)
def test_what_is_connected_to_is_the_address_that_was_judged(text, address):
    assert parse_endpoint(text).address == address


@pytest.mark.parametrize("text", ["[::ffff:8.8.8.8]:1", "134744072:1"])
def test_another_spelling_of_a_public_address_is_none_the_less_public(text):
    with pytest.raises(InputError, match=r"is at 8\.8\.8\.8, which is not a private address"):
        parse_endpoint(text)


def test_a_server_that_llama_cpp_cannot_speak_to_is_named():
    with pytest.raises(
        EnvironmentFaultError, match=r"at \[::1\]:50052 has an IPv6 address, and llama\.cpp speaks IPv4"
    ):
        check_reachable(parse_endpoint("[::1]:50052"))


@pytest.mark.parametrize("text", ["", "host", "host:", ":50052", "host:0", "host:65536", "host:http"])
def test_what_is_no_endpoint_says_how_to_write_one(text):
    with pytest.raises(InputError, match="write it as HOST:PORT"):
        parse_endpoint(text)


def test_a_host_that_nobody_knows_is_named():
    with pytest.raises(InputError, match=r"nobody\.invalid:50052: the host is not known"):
        parse_endpoint("nobody.invalid:50052")


@pytest.mark.parametrize("host", ["a\0b", "a" * 300, "..", "\udcff"])
def test_a_host_that_is_no_name_is_not_known(host):
    with pytest.raises(InputError, match="the host is not known"):
        parse_endpoint(f"{host}:50052")


def test_where_nobody_listens_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = RpcEndpoint("127.0.0.1", server.getsockname()[1])
    with pytest.raises(EnvironmentFaultError, match=f"no RPC server answers at {endpoint}"):
        check_reachable(endpoint)


def test_a_server_that_is_busy_with_another_client_is_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = RpcEndpoint("127.0.0.1", server.getsockname()[1])
        with pytest.raises(EnvironmentFaultError, match=r"does not answer within 0\.2 s; it has one client at a time"):
            check_reachable(endpoint, answer_seconds=0.2)


def test_a_server_of_llama_cpp_is_reachable_as_often_as_it_is_asked():
    with loopback_device() as text:
        for _ in range(3):
            check_reachable(parse_endpoint(text))
