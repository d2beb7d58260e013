import ast
import configparser
import shlex
import subprocess
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.llama.load_settings import KvTypes, TensorOverride
from toolkit.render.plan.launch import (
    FORMATS,
    LaunchPlan,
    launch_text,
    llama_arguments,
    llama_server_command,
    ollama_modelfile,
    server_preset,
    shell_variables,
    uses_overrides,
)

AWKWARD = Path("/models/模型 Ž é/it's a model.gguf")


def test_a_shell_reads_the_path_back_as_it_was():
    words = shlex.split(llama_server_command(LaunchPlan(AWKWARD, 4096, 33)))
    assert words == ["llama-server", "-m", str(AWKWARD), "-c", "4096", "-ngl", "33"]


def test_a_quantized_kv_cache_comes_with_flash_attention():
    words = shlex.split(llama_server_command(LaunchPlan(AWKWARD, 4096, 33, KvTypes("q8_0", "q8_0"))))
    assert words[-6:] == ["-ctk", "q8_0", "-ctv", "q8_0", "-fa", "on"]


def test_the_python_expression_is_valid_and_says_the_same():
    call = ast.parse(llama_arguments(LaunchPlan(AWKWARD, 4096, 33, KvTypes("q8_0", "q8_0"))), mode="eval").body
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert arguments == {
        "model_path": str(AWKWARD),
        "n_ctx": 4096,
        "n_gpu_layers": 33,
        "type_k": 8,
        "type_v": 8,
        "flash_attn": True,
        "swa_full": False,
    }


CONTROL = [
    "a\nPARAMETER x 1.gguf",
    "a\rb.gguf",
    "a\tb.gguf",
    "a\x1b[2Jb.gguf",
    "a\x85b.gguf",
    "a\u2028b.gguf",
    "a\u202eb.gguf",
    "a\udcffb.gguf",
]
QUOTED = [
    "a'b.gguf",
    'a"b.gguf',
    "a b.gguf",
    "a$(touch x)`touch y`.gguf",
    "a;b.gguf",
    "a#b.gguf",
    "a&b|c>d.gguf",
    "a\\b.gguf",
    "{{x}}.gguf",
]


@pytest.mark.parametrize("name", CONTROL)
@pytest.mark.parametrize("format_", [name for name in FORMATS if name != "python"])
def test_a_name_with_control_characters_is_refused_where_it_would_begin_a_line(format_, name):
    for plan in (
        LaunchPlan(Path(name), 512, 9),
        LaunchPlan(Path("m.gguf"), 512, 9, mmproj=Path(name)),
    ):
        with pytest.raises(InputError, match=r"control characters, which no .* line takes; rename the file"):
            launch_text(plan, format_)


@pytest.mark.parametrize("name", [*CONTROL, *QUOTED])
def test_python_reads_any_name_back(name):
    call = ast.parse(launch_text(LaunchPlan(Path(name), 512, 9), "python"), mode="eval").body
    assert ast.literal_eval(call.keywords[0].value) == name


@pytest.mark.parametrize("name", QUOTED)
def test_a_shell_reads_any_name_back(tmp_path, name):
    plan = LaunchPlan(Path(name), 512, 9)
    assert shlex.split(launch_text(plan, "llama-server"))[2] == name
    script = launch_text(plan, "shell") + '\nprintf %s "$MODEL"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, check=True, cwd=tmp_path).stdout.decode() == name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*QUOTED, " a.gguf", "a.gguf "])
def test_a_preset_reads_a_name_back_or_refuses_it(name):
    plan = LaunchPlan(Path(name), 512, 9)
    if set(name) & set(";#") or name != name.strip():
        with pytest.raises(InputError, match=r"preset cannot say the name of .* rename the file"):
            launch_text(plan, "preset")
        return
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";", "#"))
    parser.read_string(launch_text(plan, "preset"))
    (section,) = parser.sections()
    assert parser[section]["model"] == name


def test_a_preset_is_for_one_model_whatever_it_is_called():
    assert launch_text(LaunchPlan(Path("*.gguf"), 512, 9), "preset").startswith("[-]\n")


@pytest.mark.parametrize("name", [*QUOTED, " a.gguf", "a.gguf ", '"a.gguf', '"""a.gguf'])
def test_a_modelfile_has_a_name_to_the_end_of_its_line_or_refuses_it(name):
    plan = LaunchPlan(Path(name), 512, 9)
    if name.startswith('"') or name != name.strip():
        with pytest.raises(InputError, match=r"ollama cannot say the name of .* rename the file"):
            launch_text(plan, "ollama")
        return
    assert launch_text(plan, "ollama").splitlines()[0] == f"FROM {name}"


MIXTURE = LaunchPlan(
    AWKWARD,
    32768,
    49,
    KvTypes("q8_0", "f16"),
    n_cpu_moe=12,
    overrides=(TensorOverride(r"blk\.12\.ffn_up_exps\.weight"),),
    tensor_split=(30, 19),
    n_parallel=4,
    n_ubatch=1024,
    profile="Q4_K_M",
)


def test_a_mixture_names_the_blocks_whose_experts_stay_on_the_cpu():
    words = shlex.split(llama_server_command(MIXTURE))
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options == {
        "-m": str(AWKWARD),
        "-c": "32768",
        "-ngl": "49",
        "-ctk": "q8_0",
        "-ctv": "f16",
        "-fa": "on",
        "-ncmoe": "12",
        "-ot": r"blk\.12\.ffn_up_exps\.weight=CPU",
        "-ts": "30,19",
        "-np": "4",
        "-ub": "1024",
    }


def test_a_shell_evaluates_the_variables_to_what_was_planned():
    script = f"{shell_variables(MIXTURE)}\nprintf '%s\\n' \"$MODEL\" $NGL $CTX $KV_TYPE_K $KV_TYPE_V $N_CPU_MOE $TENSOR_SPLIT"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == [str(AWKWARD), "49", "32768", "q8_0", "f16", "12", "30,19"]


def test_a_preset_is_a_section_of_ini_with_long_options():
    parser = configparser.ConfigParser()
    parser.read_string(server_preset(MIXTURE))
    section = dict(parser["it's-a-model"])
    assert section["model"] == str(AWKWARD)
    assert section["n-gpu-layers"] == "49"
    assert section["n-cpu-moe"] == "12"
    assert section["override-tensor"] == r"blk\.12\.ffn_up_exps\.weight=CPU"


def test_a_modelfile_says_what_the_server_of_ollama_must_be_told():
    lines = ollama_modelfile(LaunchPlan(AWKWARD, 4096, 33, KvTypes("q8_0", "q8_0"))).splitlines()
    assert "OLLAMA_KV_CACHE_TYPE=q8_0" in lines[0]
    assert lines[1:] == [f"FROM {AWKWARD}", "PARAMETER num_ctx 4096", "PARAMETER num_gpu 33"]


def test_only_overrides_and_servers_keep_a_plan_from_being_told_to_every_program():
    assert uses_overrides(MIXTURE)
    assert not uses_overrides(LaunchPlan(AWKWARD, 4096, 33, KvTypes("q8_0", "q8_0")))


def test_devices_come_after_the_servers_that_make_them_and_not_into_a_preset():
    plan = LaunchPlan(AWKWARD, 512, 9, tensor_split=(5, 4), rpc=("10.0.0.1:50052",), devices=("CUDA0", "RPC0"))
    words = shlex.split(llama_server_command(plan))
    assert words[-4:] == ["--rpc", "10.0.0.1:50052", "-dev", "CUDA0,RPC0"]
    assert "device" not in server_preset(plan)
    assert "device = none" in server_preset(LaunchPlan(AWKWARD, 512, 0, devices=("none",)))
