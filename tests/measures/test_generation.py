"""What a model says to a prompt: the pieces, when it ends, and the format of a conversation."""

import pytest
from tiny_model import write_tiny_model

from toolkit.errors import InputError
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chat_rendering import TemplateRenderer
from toolkit.measures.generation import Generation, GenerationStats, Sampling, chat_prompt

BOS = 1
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with LlamaRuntime(path, RunSettings(n_ctx=256, n_threads=1)) as loaded:
        yield loaded


def text_of(runtime, **sampling):
    generation = Generation(runtime, runtime.tokenize("the sea"), Sampling(**sampling))
    return "".join(generation), generation.stats


def test_the_likeliest_text_is_the_same_every_time(runtime):
    first, stats = text_of(runtime, n_tokens=6)
    assert first == text_of(runtime, n_tokens=6)[0] != ""
    assert (stats.generated_tokens, stats.ended_by) == (6, "length")
    assert stats.prompt_tokens == len(runtime.tokenize("the sea"))


def test_a_longer_text_begins_as_the_shorter_one_does(runtime):
    assert text_of(runtime, n_tokens=12)[0].startswith(text_of(runtime, n_tokens=6)[0].rstrip("\ufffd"))


def test_chance_follows_its_seed(runtime):
    texts = [text_of(runtime, n_tokens=12, temperature=5.0, seed=seed)[0] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_character_in_several_tokens_comes_whole(runtime):
    class Spelling:
        """Says the bytes of a text, whatever it is asked."""

        n_ctx, bos_token = 64, None

        def __init__(self, data):
            self.data, self.at = data, -1

        def clear(self):
            pass

        def evaluate(self, _tokens):
            self.at += 1
            return runtime.evaluate([1])[-1:]

        def ends_text(self, _token):
            return self.at == len(self.data)

        def piece(self, _token):
            return self.data[self.at : self.at + 1]

    runtime.clear()
    pieces = list(Generation(Spelling("aé日".encode()), [1], Sampling()))
    assert pieces == ["a", "é", "日"]


def test_a_full_context_ends_the_text(runtime):
    generation = Generation(runtime, [BOS] * 250, Sampling(n_tokens=100))
    "".join(generation)
    assert (generation.stats.generated_tokens, generation.stats.ended_by) == (6, "context")


def test_a_prompt_that_leaves_no_room_is_refused(runtime):
    with pytest.raises(InputError, match="the prompt has 256 tokens, which leaves no token free in a context of 256"):
        Generation(runtime, [BOS] * 256, Sampling())


def test_the_first_token_is_the_prompts_and_counts_to_no_rate():
    assert GenerationStats(10, 2.0, 5, 2.0, "model").generation_tokens_per_second == 2.0
    assert GenerationStats(10, 2.0, 1, 0.0, "model").generation_tokens_per_second is None


@pytest.mark.parametrize("template", [PLAIN, "{{ bos_token }}" + PLAIN])
def test_a_conversation_begins_with_one_bos_whether_its_template_writes_it_or_not(runtime, template):
    with TemplateRenderer() as renderer:
        text = chat_prompt(renderer, template, [{"role": "user", "content": "hi"}], SPECIAL)
    tokens = runtime.tokenize_rendered(text)
    assert tokens.count(BOS) == 1
    assert tokens[0] == BOS
    assert runtime.detokenize(tokens).strip() == "[user]hi[assistant]"


def test_what_a_template_does_not_take_is_refused_with_its_words(runtime):
    template = "{{ raise_exception('no system role here') }}"
    message = r"does not take the prompt \(no system role here\); --raw continues the prompt without it"
    with TemplateRenderer() as renderer, pytest.raises(InputError, match=message):
        chat_prompt(renderer, template, [{"role": "user", "content": "hi"}], SPECIAL)
