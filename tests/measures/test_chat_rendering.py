"""Templates render as in transformers, and can do nothing else."""

import pytest

from toolkit.measures.chat_rendering import Conversation, TemplateRefusalError, render

ASK = Conversation("ask", ({"role": "user", "content": "Grüße <&>"},))


def test_messages_special_tokens_and_the_prompt_are_given():
    template = (
        "{{ bos_token }}{% for message in messages %}\n    [{{ message.role }}] {{ message['content'] | trim }}\n"
        "    {% endfor %}\n{% if add_generation_prompt %}>{% endif %}"
    )
    assert render(template, ASK, {"bos_token": "<s>"}) == "<s>    [user] Grüße <&>\n>"


def test_json_is_written_without_the_escapes_of_html():
    assert render("{{ messages[0] | tojson }}", ASK, {}) == '{"role": "user", "content": "Grüße <&>"}'
    assert render("{{ [1] | tojson(indent=2) }}", ASK, {}) == "[\n  1\n]"


def test_no_tools_are_none_and_offered_ones_a_list():
    assert render("{{ tools is none }}", ASK, {}) == "True"
    with_tools = Conversation("tools", ASK.messages, ({"type": "function"},))
    assert render("{{ tools[0].type }}", with_tools, {}) == "function"


def test_generation_marks_and_loop_controls_are_known():
    template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    assert render(template, ASK, {}) == "Grüße <&>"


def test_a_date_is_always_the_same():
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
def test_what_a_template_must_not_do_is_a_refusal(template, message):
    with pytest.raises(TemplateRefusalError, match=message):
        render(template, ASK, {})
