"""Record what llama.cpp's own tools print with this machine's build, in `golden/tool_prints.json` (`tool_prints`).

Build llama-perplexity and llama-imatrix from the llama.cpp inside llama-cpp-python's source archive, then:

    PYTHONPATH=.:tests:tests/kit python tests/record_tool_prints.py BUILD/bin SMOLLM2_CHECKPOINT

The tools are run on the libraries of llama-cpp-python, which are those that the toolkit runs on.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from demo_model import FIXED_TEXT, convert_demo
from llama_tools import digests
from tiny_moe import write_tiny_moe
from tool_prints import PATH, this_build

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.importance.matrix import read_sums
from toolkit.llama.native import library_folder
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint


class Tools:
    """The programs in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, name, *words):
        """Return what a tool printed on both streams."""
        command = list(map(str, (self.folder / name, "-t", 1, *words)))
        environment = os.environ | {"LD_LIBRARY_PATH": str(library_folder())}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", env=environment, check=True
        )
        return done.stdout

    def perplexity(self, model, *words):
        """Return the lines with numbers."""
        printed = self.run("llama-perplexity", "-m", model, "-f", FIXED_TEXT, *words)
        chunks = "".join(re.findall(r"\[\d+\][\d.]+,", printed))
        final = re.search(r"Final estimate: .*", printed)
        return f"{chunks}\n{final[0]}" if final else chunks

    def divergence(self, model, logits):
        """Return the statistics, from their first heading on."""
        printed = self.run("llama-perplexity", "-m", model, "-c", 64, "--kl-divergence-base", logits, "--kl-divergence")
        return re.search(r"====== Perplexity statistics.*Same top p[^\n]*", printed, re.DOTALL)[0]

    def imatrix(self, model, folder):
        """Return a hash of every sum and count."""
        output = folder / "m.imatrix"
        self.run("llama-imatrix", "-m", model, "-f", FIXED_TEXT, "-c", 64, "-b", 64, "-o", output)
        entries = read_sums(output).entries
        parts = {f"{weight}.in_sum2": entry.sums for weight, entry in entries.items()}
        return "\n".join(digests(parts | {f"{weight}.counts": entry.counts for weight, entry in entries.items()}))


def main(tools, checkpoint):
    """Make the models, run the tools on them, and add their prints to the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo, small = (convert_demo(folder, profile) for profile in ("bf16", "q4_k_m"))
        prints = {
            "demo_perplexity": tools.perplexity(demo, "-c", 64),
            "demo_strided": tools.perplexity(demo, "-c", 128, "-b", 128, "--ppl-stride", 64),
            "demo_imatrix": tools.imatrix(demo, folder),
            "tiny_moe_imatrix": tools.imatrix(write_tiny_moe(folder / "moe.gguf"), folder),
        }
        tools.perplexity(demo, "-c", 64, "--kl-divergence-base", folder / "base.logits")
        prints["demo_divergence"] = tools.divergence(small, folder / "base.logits")
        for profile in ("bf16", "q4_k_m"):
            model = folder / f"smollm2-{profile}.gguf"
            write_gguf(plan_conversion(source_from_checkpoint(checkpoint), load_profile(profile)), model)
            prints[f"smollm2_{profile}"] = tools.perplexity(model, "-c", 32, "--chunks", 4)
    others = [each for each in json.loads(PATH.read_text()) if each["build"] != this_build()]
    PATH.write_text(
        json.dumps([*others, {"build": this_build(), "prints": prints}], indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main(Tools(Path(sys.argv[1])), Path(sys.argv[2]))
