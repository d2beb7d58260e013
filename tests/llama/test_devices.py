"""Every process talks to its own simulated devices, however many start at once."""

import subprocess
import sys

ASK = """
import os
from toolkit.llama.ggml_devices import memory_of
from toolkit.llama.devices import LOOPBACK, simulated_devices
from toolkit.machine.host import own_listening_ports
devices = simulated_devices()
print(sorted(own_listening_ports(LOOPBACK)), len(devices), memory_of(devices[0])[1] > 0, flush=True)
input()
os._exit(0)
"""


def test_processes_that_start_together_have_ports_of_their_own():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    processes = [subprocess.Popen([sys.executable, "-c", ASK], **pipes) for _ in range(3)]
    answers = []
    for process in processes:
        lines = iter(process.stdout.readline, "")
        answers.append(next(line for line in lines if line.startswith("[")))
    ends = [process.communicate("\n", timeout=60) and process.returncode for process in processes]
    assert ends == [0] * 3
    assert len({answer.split(" ", maxsplit=1)[0] for answer in answers}) == 3, answers
    assert all(answer.split()[1:] == ["8", "True"] for answer in answers)
