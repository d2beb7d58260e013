"""The guide in CONTRIBUTING.md shows a file that works."""

import re
from pathlib import Path
from types import ModuleType

import numpy
from architectures.variants import VARIANTS
from logits import llama_logits, token_ids
from twins import changed_case, convert_edited

from toolkit import architectures
from toolkit.architectures import known_architectures
from toolkit.architectures.families import orion

GUIDE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_example_is_the_file_and_brings_its_family_by_itself(tmp_path, monkeypatch):
    example = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1]
    assert example == Path(orion.__file__).read_text(encoding="utf-8")
    module = ModuleType("example")
    exec(example, module.__dict__)
    others = tuple(one for one in known_architectures() if one.name != "orion")
    monkeypatch.setattr(architectures, "known_architectures", lambda: (*others, *module.ARCHITECTURES))
    case, change = VARIANTS["orion"]
    file = convert_edited(changed_case(case, tmp_path, change), "f32")
    assert numpy.isfinite(llama_logits(file, False, token_ids())).all()


def test_files_and_commands_that_the_guide_names_exist():
    root = Path(__file__).parents[2]
    section = GUIDE[GUIDE.index("## Add an architecture") : GUIDE.index("## Add a profile")]
    for path in re.findall(r"\btests/[\w/]+\.py|\btoolkit/[\w/]+/(?=`)", section):
        assert (root / path).exists(), path
