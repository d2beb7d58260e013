"""Prints of llama.cpp's tools, and how near to them our numbers must be.

Everywhere our numbers are held against what `llama_tools` makes on this machine. Prints of the tools themselves are kept in
`golden/tool_prints.json` by the build of llama.cpp that computed them; on that build every printed digit is compared too,
and the end of the suite says whether there were any for this one.
"""

import json
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from toolkit.llama.ggml_devices import start_backends
from toolkit.llama.native import library_folder, llama_cpp

PATH = Path(__file__).parent / "golden" / "tool_prints.json"
ROUNDING = 2.0**-20
"""nats. A log-likelihood below 16 is a float32 with steps of this size, and an exponential that numpy rounds otherwise than
the C library moves it by one step at most; everything before is computed by the same code."""


@cache
def this_build():
    """Return what decides how llama.cpp rounds here: its version, what of the processor it uses, and its compiler."""
    start_backends()
    library = next(path for path in library_folder().glob("*ggml-cpu.*") if not path.is_symlink())
    compiler = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", library.read_bytes())
    return {
        "llama_cpp_python": version("llama_cpp_python"),
        "features": llama_cpp().llama_print_system_info().decode().strip(),
        "compiler": compiler[0].decode() if compiler else "unknown",
    }


def prints_of(build):
    """Return the prints of a build by name, nothing if there are none."""
    return next((each["prints"] for each in json.loads(PATH.read_text()) if each["build"] == build), {})


def is_close(value, printed, nat=1.0):
    """Tell whether a number is what was printed, either rounded to the digits there; `nat` is what a nat weighs in it."""
    digits = len(printed.partition(".")[2])
    return abs(float(value) - float(printed)) <= 10.0**-digits + nat * ROUNDING
