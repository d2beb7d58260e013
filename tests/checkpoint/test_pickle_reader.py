"""Pickles that no state dict is: each is refused with CheckpointError, and nothing that it names runs."""

import builtins
import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_files import Calls, name, number, pickled_call, state_dict, storage, tensor, text, write_archive

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.checkpoint.pickle_reader import read_state_dict
from toolkit.checkpoint.pickled_names import Storage, View
from toolkit.errors import CheckpointError

ONE = tensor(storage("F32", "0", 4), (2, 2), (2, 1))
FORBIDDEN = "its pickle asks for"
DAMAGED = "its pickle is damaged"


def program(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


def hostile(canary):
    """Name -> (pickle, part of the message); whatever ran one would leave a file at `canary`."""
    command = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w')"
    nested = Calls(builtins.getattr, Calls(builtins.__import__, "os"), "system")
    return {
        "os.system": (pickled_call(os.system, command), FORBIDDEN),
        "os.system, protocol 0": (pickled_call(os.system, command, protocol=0), "the opcode DICT|the opcode PUT"),
        "os.system, protocol 4": (pickled_call(os.system, command, protocol=4), FORBIDDEN),
        "builtins.eval": (pickled_call(builtins.eval, code), FORBIDDEN),
        "builtins.exec": (pickled_call(builtins.exec, code), FORBIDDEN),
        "builtins.open": (pickled_call(builtins.open, str(canary), "w"), FORBIDDEN),
        "subprocess.Popen": (pickled_call(subprocess.Popen, ["touch", str(canary)]), FORBIDDEN),
        "a reduce in a reduce": (pickle.dumps({"a": nested}, 2), FORBIDDEN),
        "torch.load": (program(name("torch", "load"), text(str(canary)), b"\x85R"), FORBIDDEN),
        "torch.hub": (program(name("torch.hub", "load"), text("x/y"), b"\x85R"), FORBIDDEN),
        "a name with dots": (program(name("collections", "OrderedDict.__class__")), FORBIDDEN),
        "a name with a space": (program(name("torch._utils _rebuild", "_rebuild_tensor_v2")), FORBIDDEN),
        "numpy's reconstruct": (program(name("numpy.core.multiarray", "_reconstruct")), FORBIDDEN),
        "_rebuild_from_type_v2": (program(name("torch._tensor", "_rebuild_from_type_v2")), FORBIDDEN),
        "INST": (b"\x80\x02(" + text(command) + b"ios\nsystem\n.", "the opcode INST"),
        "OBJ": (program(b"(", name("collections", "OrderedDict"), b"o"), "the opcode OBJ"),
        "NEWOBJ": (program(name("collections", "OrderedDict"), b")\x81"), "the opcode NEWOBJ"),
        "EXT1": (program(b"\x82\x01"), "the opcode EXT1"),
        "PERSID": (b"\x80\x02Pstorage\n.", "the opcode PERSID"),
        "BUILD on a tensor": (program(ONE, b"}b"), DAMAGED),
        "BUILD on a name": (program(name("torch", "FloatStorage"), b"}b"), DAMAGED),
        "a call of a type": (program(name("torch", "FloatStorage"), b")R"), DAMAGED),
        "a call of a text": (program(text("os.system"), b")R"), DAMAGED),
        "arguments that are a list": (program(name("collections", "OrderedDict"), b"]R"), DAMAGED),
        "a dict made from pairs": (program(name("collections", "OrderedDict"), b"]\x85R"), DAMAGED),
        "a storage that is none": (program(name("torch._utils", "_rebuild_tensor_v2"), b"(NK\x00))\x89NtR"), DAMAGED),
        "a parameter of nothing": (program(name("torch._utils", "_rebuild_parameter"), b"N\x85R"), DAMAGED),
        "too few arguments": (program(name("torch._utils", "_rebuild_tensor_v2"), b")R"), DAMAGED),
        "an unknown storage": (program(text("storage"), name("torch", "QInt8Storage")), FORBIDDEN),
        "a persistent number": (program(number(7), b"Q"), DAMAGED),
        "a huge index of the memo": (
            program(b"}r" + struct.pack("<I", 2**32 - 1), b"j" + struct.pack("<I", 2**31)),
            DAMAGED,
        ),
        "a memo that was never set": (program(b"h\x05"), DAMAGED),
        "a text longer than the file": (b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc", DAMAGED),
        "a text of 2 ** 63 bytes": (b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"abc", DAMAGED),
        "bytes of 2 ** 60": (b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"abc", DAMAGED),
        "a number of many digits": (b"\x80\x02I" + b"9" * 100_000 + b"\n.", DAMAGED),
        "a list that holds itself": (program(b"]q\x00h\x00a"), "holds a list"),
        "a dict that holds itself": (program(b"}q\x00", text("a"), b"h\x00s"), "holds a dict under 'a'"),
        "a tuple of a million levels": (program(b"N", b"\x85" * 1_000_000), "holds a tuple"),
        "a tuple of a million levels as a key": (program(b"}N", b"\x85" * 1_000_000, b"Ns"), DAMAGED),
        "a list as a key": (program(b"}]Ns"), DAMAGED),
        "marks only": (b"(" * 100_000, DAMAGED),
        "values without end": (program(b"N" * 1_100_000), "stacks up more values"),
        "a key without a value": (program(b"}(", text("a"), b"u"), DAMAGED),
        "more popped than pushed": (program(b"\x87"), DAMAGED),
        "reaching below a mark": (program(b"NN(\x86"), DAMAGED),
        "an unknown opcode": (program(b"\xff"), DAMAGED),
        "no end": (b"\x80\x02}", DAMAGED),
        "nothing": (b"", DAMAGED),
        "a list of tensors": (program(b"]", ONE, b"a"), "holds a list, expected a state dict"),
        "a number among the tensors": (state_dict({"a": ONE, "b": number(5)}), "holds a int under 'b'"),
        "a state dict in a dict": (
            state_dict({"state_dict": state_dict({"a": ONE})[2:-1]}),
            "holds a dict under 'state_dict'",
        ),
    }


HOSTILE = tuple(hostile("canary"))


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_state_dict_needs_is_refused_and_nothing_runs(case, tmp_path):
    canary = tmp_path / "canary"
    data, message = hostile(canary)[case]
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(data, "m.bin")
    assert not canary.exists()


SMALL = tuple(case for case, (data, _) in hostile("canary").items() if len(data) < 100_000)
"""The others take seconds to interpret, and differ in size alone."""


@pytest.mark.parametrize("case", SMALL)
def test_a_whole_file_around_it_is_refused_by_name_and_nothing_runs(case, tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    write_archive(tmp_path / "pytorch_model.bin", hostile(canary)[case][0])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        open_checkpoint(tmp_path)
    assert not canary.exists()


def test_there_are_many_hostile_files():
    assert len(SMALL) >= 40
    assert {"os.system", "builtins.eval", "a reduce in a reduce", "a huge index of the memo"} < set(SMALL)


def test_the_hostile_pickles_are_hostile(tmp_path):
    canary = tmp_path / "canary"
    program_ = f"import pickle, sys; pickle.loads({hostile(canary)['builtins.exec'][0]!r})"
    subprocess.run([sys.executable, "-c", program_], check=True)
    assert canary.exists()


def test_a_pickle_larger_than_any_state_dict_is_refused():
    with pytest.raises(CheckpointError, match=r"takes 67,108,865 bytes"):
        read_state_dict(bytes((64 << 20) + 1), "m.bin")


def test_a_state_dict_is_read_with_its_attributes_left_out():
    metadata = pickle.dumps({"_metadata": OrderedDict(version=1)}, 2)[2:-1]
    data = program(name("collections", "OrderedDict"), b")R(", text("a"), ONE, b"u", metadata, b"b")
    assert read_state_dict(data, "m.bin") == {"a": View(Storage("F32", "0", 4), "F32", 0, (2, 2), (2, 1))}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_are_read_or_refused_but_never_anything_else(data):
    content = bytearray(state_dict({"a": ONE, "b": ONE}))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        views = read_state_dict(bytes(content), "m.bin")
    except CheckpointError:
        return
    assert all(isinstance(view, View) for view in views.values())
