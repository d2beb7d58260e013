"""Templates render as in transformers, and can do nothing else."""

import os
from pathlib import Path

import pytest

from toolkit.measures.chat_rendering import (
    Conversation,
    TemplateLimitError,
    TemplateLimits,
    TemplateRefusalError,
    TemplateRenderer,
)

ASK = Conversation("ask", ({"role": "user", "content": "Grüße <&>"},))


@pytest.fixture(scope="module")
def render():
    with TemplateRenderer(TemplateLimits(cpu_seconds=0.4)) as renderer:
        yield renderer.render


@pytest.fixture(scope="module")
def render_patiently():
    """Give a renderer whose memory ends before its time, on a busy machine too."""
    with TemplateRenderer(TemplateLimits(cpu_seconds=20, clock_seconds=60)) as renderer:
        yield renderer.render


def test_messages_special_tokens_and_the_prompt_are_given(render):
    template = (
        "{{ bos_token }}{% for message in messages %}\n    [{{ message.role }}] {{ message['content'] | trim }}\n"
        "    {% endfor %}\n{% if add_generation_prompt %}>{% endif %}"
    )
    assert render(template, ASK, {"bos_token": "<s>"}) == "<s>    [user] Grüße <&>\n>"


def test_json_is_written_without_the_escapes_of_html(render):
    assert render("{{ messages[0] | tojson }}", ASK, {}) == '{"role": "user", "content": "Grüße <&>"}'
    assert render("{{ [1] | tojson(indent=2) }}", ASK, {}) == "[\n  1\n]"


def test_no_tools_are_none_and_offered_ones_a_list(render):
    assert render("{{ tools is none }}", ASK, {}) == "True"
    with_tools = Conversation("tools", ASK.messages, ({"type": "function"},))
    assert render("{{ tools[0].type }}", with_tools, {}) == "function"


def test_generation_marks_and_loop_controls_are_known(render):
    template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    assert render(template, ASK, {}) == "Grüße <&>"


def test_a_date_is_always_the_same(render):
    assert render("{{ strftime_now('%Y') }}", ASK, {}) == render("{{ strftime_now('%d') }}", ASK, {})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no system prompt') }}", "no system prompt"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[7].content.upper() }}", "has no element 7"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "unsafe"),
        ("{{ 1 // 0 }}", "division"),
        ("{% for a in range(99999999) %}{% endfor %}", "[Rr]ange"),
        ("{% for a in range(2000) %}{{ 'x' * 1000 }}{% endfor %}", "writes more than"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ 'a'.encode(1) }}", "argument"),
    ],
)
def test_what_a_template_must_not_do_is_a_refusal(render, template, message):
    with pytest.raises(TemplateRefusalError, match=message):
        render(template, ASK, {})


def nested(loops):
    return "".join(f"{{% for a{i} in [1] %}}" for i in range(loops)) + "{% endfor %}" * loops


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% break %}", "'break' outside loop"),
        (nested(25), "too many statically nested blocks"),
        ("{{ '\\ud800' }}", "half of a surrogate pair"),
        ("\ud800", "half of a surrogate pair"),
        ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "recursion"),
        ("{{ raise_exception('a\n\u2028 b') }}", "^a b$"),
        ("{{ raise_exception('') }}", "RefusalError"),
    ],
)
def test_what_the_compiler_or_the_text_does_not_take_is_a_refusal_in_one_line(render, template, message):
    with pytest.raises(TemplateRefusalError, match=message):
        render(template, ASK, {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10**11 }}",
        "{{ '%9000000000d' % 1 }}",
        "{% set n = namespace(s='a') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{{ [[[[[1]]]]] | tojson(indent=400000000) }}",
        "{{ 'a' | center(10**10) }}",
    ],
)
def test_a_template_that_wants_memory_without_end_is_stopped_and_the_next_one_renders(render_patiently, template):
    with pytest.raises(TemplateLimitError, match="takes more than 512 MiB of memory"):
        render_patiently(template, ASK, {})
    assert render_patiently("{{ 1 }}", ASK, {}) == "1"


@pytest.mark.parametrize(
    "template",
    ["{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "{{ 7 ** (10**8) }}"],
)
def test_a_template_that_computes_without_end_is_stopped_and_the_next_one_renders(render, template):
    with pytest.raises(TemplateLimitError, match=r"takes more than 0\.4 s"):
        render(template, ASK, {})
    assert render("{{ 1 }}", ASK, {}) == "1"


def test_the_clock_stops_what_no_other_limit_does():
    with (
        TemplateRenderer(TemplateLimits(cpu_seconds=60, clock_seconds=0.3)) as renderer,
        pytest.raises(TemplateLimitError, match=r"takes more than 0\.3 s$"),
    ):
        renderer.render("{{ 7 ** (10**8) }}", ASK, {})


def test_many_renderings_do_not_add_up_to_a_limit(render):
    count = "{% for a in range(9999) %}{% for b in range(20) %}{% endfor %}{% endfor %}"
    for _ in range(15):
        assert render(count, ASK, {}) == ""


def test_a_long_conversation_may_be_written_as_it_is(render):
    long = Conversation("long", ({"role": "user", "content": "x" * (2 << 20)},))
    assert len(render("{{ messages[0].content }}", long, {})) == 2 << 20


def test_what_chance_draws_is_drawn_alike_every_time(render):
    assert render("{{ lipsum() }}{{ range(9999) | random }}", ASK, {}) == render(
        "{{ lipsum() }}{{ range(9999) | random }}", ASK, {}
    )


def test_the_process_ends_with_its_block_and_imports_nothing_heavy():
    with TemplateRenderer() as renderer:
        renderer.render("{{ 1 }}", ASK, {})
        assert renderer._child is not None
        pid = renderer._child.pid
        maps = Path(f"/proc/{pid}/maps")
        loaded = maps.read_text() if maps.exists() else ""
    assert not any(name in loaded for name in ("numpy", "llama", "tokenizers"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
