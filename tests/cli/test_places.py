from loopback_device import loopback_device

from toolkit.cli.places import Places, servers_that_answer


def test_a_server_is_passed_on_by_the_address_that_its_name_was_looked_up_to():
    with loopback_device() as endpoint:
        named = endpoint.replace("127.0.0.1", "localhost")
        assert servers_that_answer(Places(rpc=(named,)), None, "planned without it") == (None, (endpoint,))
