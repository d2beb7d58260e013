from loopback_device import loopback_device

from toolkit.reporter import LOGGING
from toolkit.verbs.devices import DeviceFields, reachable_servers


def test_a_server_is_passed_on_by_the_address_that_its_name_was_looked_up_to():
    with loopback_device() as endpoint:
        named = endpoint.replace("127.0.0.1", "localhost")
        assert reachable_servers(DeviceFields(rpc=(named,)), LOGGING, "planned without it") == (None, (endpoint,))


def test_budgets_are_numbers_or_text():
    assert DeviceFields(vram="8GiB,512MiB").vram_bytes == (8 << 30, 512 << 20)
    assert DeviceFields(vram=["8GiB", 5]).vram_bytes == (8 << 30, 5)
    assert DeviceFields(vram=0, ram="1GiB", margin=7).vram_bytes == (0,)
    assert DeviceFields(ram="1GiB").ram_bytes == 1 << 30
    assert DeviceFields(margin=7).margin_bytes == 7
    assert DeviceFields().vram_bytes is None
