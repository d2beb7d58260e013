"""The programs in the README run as they stand there, on the embedded model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## From Python\n")[1].split("\n## ")[0]
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
SHOWN = ("Demo-5.2M-Q4_K_M.gguf", "PASS tensors", "Q4_K_M True", "q2_k ")
"""what each prints, among other things"""


def test_there_is_something_to_expect_of_every_program():
    assert len(PROGRAMS) == len(SHOWN) == SECTION.count("```python")


@pytest.mark.parametrize(("program", "shown"), list(zip(PROGRAMS, SHOWN, strict=False)), ids=SHOWN)
def test_a_program_of_the_readme_runs(program, shown, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
