"""An index decides which files are fetched, and is held against what there is."""

import json
import os
import subprocess
import sys

import pytest
from hub_server import Hub, serve

WEIGHTS = """
import sys
from toolkit.errors import CheckpointError
from toolkit.hub import parse_hub_model
from toolkit.hub.repository import open_repository
try:
    print(open_repository(parse_hub_model("some/model")).weights)
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("weight_map", "told"),
    [
        ({"a": "model-00001-of-00002.safetensors"}, "('model-00001-of-00002.safetensors',)"),
        (
            {"a": "model-00002-of-00002.safetensors"},
            "names model-00002-of-00002.safetensors, which the repository does not",
        ),
        ({"a": 2}, "has no weight_map of tensor names to file names"),
    ],
)
def test_an_index_that_names_what_is_not_there_is_refused(weight_map, told, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"weights")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with serve(Hub({"some/model": folder})) as hub:
        environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", WEIGHTS], env=environment, capture_output=True, encoding="utf-8", check=False
        )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
