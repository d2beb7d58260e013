"""What `fit` does when memory that was free while it planned is taken by the time it loads."""

import json
import subprocess
import sys
from pathlib import Path

from demo_model import FIXED_TEXT
from loopback_device import loopback_device

ROOT = Path(__file__).parents[2]
# In a process of its own, because a registered server stays for as long as its process lives.
FIT = """
import json, sys
from dataclasses import replace
from pathlib import Path
from toolkit.measures.evaluation_text import read_text
from toolkit.fitting.trials import Devices, FitJob, MeasureOptions, find_fit
from toolkit.fitting.quality import QualityOptions
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.llama.load_settings import F16_KV, LoadSettings
from toolkit.memory.loaded_model import OwnProcess
from toolkit.planning.request import PlanningRequest
from toolkit.memory.plannable import model_from_source
from toolkit.planning.budgets import Budgets
from toolkit.measures.token_rate import RateSettings
from toolkit.planning.token_speed import Bandwidths
from toolkit.reporter import LoggingReporter

endpoint, checkpoint, output, text, planned, later = sys.argv[1:]
source = source_from_checkpoint(Path(checkpoint))
budgets = Budgets((int(planned),), 1 << 40)
settings = LoadSettings(n_ctx=128, device="cpu", rpc=(endpoint,))
request = PlanningRequest(budgets, settings, Bandwidths((), 1e10), (F16_KV,))
measure = MeasureOptions(QualityOptions(read_text(Path(text)), max_chunks=2, max_increase=9), RateSettings(8, 2, 1))
job = FitJob(source, model_from_source(source, ("q8_0",)), request, measure)
devices = Devices(OwnProcess(), lambda: replace(budgets, vram_bytes=(int(later),)))
reporter = LoggingReporter()
told = []
reporter.note = told.append
result = find_fit(job, devices, lambda choice: Path(output), reporter)
taken = result.trial.allocated.gpu_bytes
print(json.dumps({"told": told, "layers": result.launch.n_gpu_layers, "taken": taken}))
"""
MIB = 1 << 20


def fitted(endpoint, checkpoint, output, planned, later):
    arguments = [endpoint, checkpoint, output, FIXED_TEXT, planned, later]
    command = [sys.executable, "-c", FIT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


def test_a_file_is_divided_anew_where_memory_was_taken_before_it_was_loaded(kit_checkpoint, tmp_path):
    with loopback_device() as endpoint:
        found = fitted(endpoint, kit_checkpoint("llama3"), tmp_path / "m.gguf", 4 * MIB, 3 * MIB // 2)
    assert "1.50 MiB of VRAM are free now, 4.00 MiB were planned for: planned again" in found["told"]
    assert 0 < found["layers"] < 3
    assert found["taken"] <= 3 * MIB // 2
