"""`scripts/bench_measure` as a module: its name has no suffix."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

_PATH = Path(__file__).parents[1] / "scripts" / "bench_measure"
_LOADER = SourceFileLoader("scripts_bench_measure", str(_PATH))
_MODULE = module_from_spec(spec_from_loader(_LOADER.name, _LOADER))
sys.modules[_LOADER.name] = _MODULE
_LOADER.exec_module(_MODULE)
STATISTICS, printed_statistics = _MODULE.STATISTICS, _MODULE.printed_statistics
