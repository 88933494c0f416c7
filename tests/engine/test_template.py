"""Chat templates."""

import time

import pytest

from lmx.engine.template import ChatTemplate, TemplateError

HELLO = [{"role": "user", "content": "hello"}]

NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def render(source: str, messages: list[dict[str, str]] = HELLO) -> str:
    return ChatTemplate(source, bos="<s>", eos="</s>").render(messages)


def test_what_templates_from_hugging_face_expect_is_there() -> None:
    """bos and eos, the generation prompt, loop controls, plain tojson and whitespace control."""
    source = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}\n"
        "    {{ m | tojson }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "<é>"}]
    assert render(source, messages) == '<s>    {"role": "user", "content": "<é>"}</s>>'


def test_a_template_may_refuse_and_its_words_reach_the_client() -> None:
    """raise_exception becomes a TemplateError with the template's sentence."""
    with pytest.raises(TemplateError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize("source", ["{{ messages[7].content }}", "{{ 1 / 0 }}", "{{ messages + 1 }}", "{{ nope() }}"])
def test_a_template_that_fails_is_an_answer_not_a_crash(source: str) -> None:
    """Errors inside a template become TemplateError."""
    with pytest.raises(TemplateError):
        render(source)


@pytest.mark.parametrize("source", ["{% for i in range(10**9) %}{% endfor %}", NESTED])
def test_a_template_that_loops_ends(source: str) -> None:
    """F46: too large a range is refused at once, too many of them after two seconds of computing."""
    before = time.thread_time()
    with pytest.raises(TemplateError):
        render(source)
    assert time.thread_time() - before < 3


def test_a_loop_knows_where_it_is() -> None:
    """Its limit hides neither its length nor its ends, and constants, conditions, recursion and else still work."""
    source = (
        "{% for i in [1, 2] %}{{ loop.index }}/{{ loop.length }}{% if loop.last %}.{% endif %}{% endfor %}"
        "{% for i in range(4) if i > 2 %}{{ i }}{% endfor %}{% for i in nothing %}{% else %}-{% endfor %}"
        "{% for i in [[[]]] recursive %}({{ loop(i) }}){% endfor %}"
    )
    assert render(source) == "1/22/2.3-(())"


def test_a_broken_template_is_found_at_load_with_its_line() -> None:
    """Syntax errors are found when the model is loaded."""
    with pytest.raises(TemplateError, match="line 2"):
        ChatTemplate("ok\n{% if %}", bos="", eos="")


@pytest.mark.parametrize("source", ["{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}"])
def test_a_template_is_a_guest(source: str) -> None:
    """The sandbox lets a template neither change what it is given nor reach for Python's insides."""
    with pytest.raises(TemplateError):
        render(source)
