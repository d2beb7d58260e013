"""A build of llama.cpp whose products end in a signal: a library that is loaded before it and stands in for `ggml_graph_compute`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.llama.ggml_tensor import GgmlTensor
from toolkit.llama.offload_build import library_folder

SOURCE = r"""
#include <dlfcn.h>
#include <signal.h>
#include <string.h>

typedef int Compute(void *, void *);
typedef int Count(void *);
typedef void *Node(void *, int);
typedef const char *Name(void *);

static void *function(const char *library, const char *name) { return dlsym(dlopen(library, RTLD_NOW), name); }

int ggml_graph_compute(void *graph, void *plan) {
    int count = ((Count *)function(BASE, "ggml_graph_n_nodes"))(graph);
    for (int index = 0; index < count; index++) {
        char *node = ((Node *)function(BASE, "ggml_graph_node"))(graph, index);
        char *weights = *(char **)(node + SOURCES);
        void *buffer = weights ? *(void **)(weights + BUFFER) : 0;
        if (buffer && !strcmp(((Name *)function(BASE, "ggml_backend_buffer_name"))(buffer), DEADLY)) raise(SIGNAL);
    }
    return ((Compute *)function(CPU, "ggml_graph_compute"))(graph, plan);
}
"""


def build_that_dies(folder: Path, name: str, buffer: str) -> dict[str, str]:
    """Return an environment in which a product of weights in a buffer of that name ends in the signal of that name."""
    if sys.platform != "linux":
        pytest.fail("a library that is loaded first needs Linux")
    libraries = library_folder()
    assert libraries is not None
    words = {
        "BASE": f'"{libraries / "libggml-base.so.0"}"',
        "CPU": f'"{libraries / "libggml-cpu.so.0"}"',
        "DEADLY": f'"{buffer}"',
        "SIGNAL": name,
        "SOURCES": str(GgmlTensor.src.offset),
        "BUFFER": str(GgmlTensor.buffer.offset),
    }
    library = folder / "dies.so"
    source = folder / "dies.c"
    source.write_text(SOURCE)
    definitions = [f"-D{word}={value}" for word, value in words.items()]
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", *definitions, "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return os.environ | {"LD_PRELOAD": str(library), "GGUF_TOOLKIT_CACHE": str(folder / "cache")}
