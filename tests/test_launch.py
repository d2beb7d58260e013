import ast
import shlex
from pathlib import Path

from toolkit.launch import LaunchPlan, llama_arguments, llama_server_command

AWKWARD = Path("/models/模型 Ž é/it's a model.gguf")


def test_a_shell_reads_the_path_back_as_it_was():
    words = shlex.split(llama_server_command(LaunchPlan(AWKWARD, 4096, 33, "f16")))
    assert words == ["llama-server", "-m", str(AWKWARD), "-c", "4096", "-ngl", "33"]


def test_a_quantized_kv_cache_comes_with_flash_attention():
    words = shlex.split(llama_server_command(LaunchPlan(AWKWARD, 4096, 33, "q8_0")))
    assert words[-6:] == ["-ctk", "q8_0", "-ctv", "q8_0", "-fa", "on"]


def test_the_python_expression_is_valid_and_says_the_same():
    call = ast.parse(llama_arguments(LaunchPlan(AWKWARD, 4096, 33, "q8_0")), mode="eval").body
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert arguments == {
        "model_path": str(AWKWARD),
        "n_ctx": 4096,
        "n_gpu_layers": 33,
        "type_k": 8,
        "type_v": 8,
        "flash_attn": True,
    }
