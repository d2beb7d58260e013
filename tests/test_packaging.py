"""What a user installs: the wheel holds the profiles and the demo, and finds them where it is unpacked."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*build, "-w", str(folder), str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("gguf_toolkit-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_profile_and_the_demo_are_inside(unpacked):
    shipped = {path.name for path in (unpacked / "toolkit" / "quant_profiles").glob("*.toml")}
    assert shipped == {path.name for path in (ROOT / "quant_profiles").glob("*.toml")} != set()
    assert (unpacked / "toolkit" / "data" / "demo" / "model.safetensors").stat().st_size > 10_000_000


def test_the_templates_and_the_style_sheet_of_the_page_are_inside(unpacked):
    folder = Path("toolkit") / "render" / "comparison" / "templates"
    shipped = {path.name for path in (unpacked / folder).iterdir()}
    assert shipped == {path.name for path in (ROOT / folder).iterdir()} > {"page.html.j2", "picture.svg.j2", "page.css"}


def test_an_unpacked_wheel_plans_a_conversion_away_from_the_checkout(unpacked, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    command = [
        sys.executable,
        "-c",
        "import toolkit, sys; print(toolkit.__file__); from toolkit.cli import main; sys.argv[1:] = ['convert', 'demo', '--dry-run']; main()",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(unpacked))
    assert "Q4_K_M: 3.17 MiB (3,320,256 bytes)" in done.stdout
