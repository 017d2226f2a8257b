"""Chat templates rendered by this package and by jinja2 as transformers sets it up: the same text, the same refusals."""

import pytest
from support import chat_templates

pytestmark = pytest.mark.timeout(300)

# What many published templates have in common, written for this test.
OWN = {
    "chatml": """\
{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message.content is string %}{{ message.content | trim }}{% else %}
    {%- for part in message.content or [] if part.type == 'text' %}{{ part.text }}{{ ', ' if not loop.last }}{% endfor %}
    {%- endif %}
    {{- '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}
""",
    "tools": """\
{{ bos_token }}
{%- macro show(schema, depth=0) -%}
  {%- for name, value in schema.items() recursive %}
{{ '  ' * depth }}{{ name }}: {% if value is mapping %}{{ show(value, depth + 1) }}{% elif value is iterable and value is not string -%}
  {{ value | join('|') }}{% else %}{{ value | tojson }}{% endif %}
  {%- endfor %}
{%- endmacro %}
{%- set ns = namespace(last=-1, calls=0) %}
{%- for message in messages[::-1] %}
  {%- if message.role == 'user' and ns.last < 0 %}{% set ns.last = messages | length - 1 - loop.index0 %}{% endif %}
{%- endfor %}
{%- if tools is defined and tools %}
# Tools, {{ strftime_now('%d %b %Y') }}
  {%- for tool in tools | selectattr('function') | sort(attribute='function.name') %}
{{ tool.function | tojson(indent=2) }}{{ show(tool.function.parameters) }}
  {%- endfor %}
{%- endif %}
{%- for message in messages %}
  {%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}{{ raise_exception('no role ' ~ message.role) }}{% endif %}
  {%- set content = message.content if message.content is string else '' %}
  {%- if '</think>' in content and loop.index0 < ns.last %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}
[{{ message.role | upper }}] {{ content }}
  {%- for call in message.tool_calls or [] %}
    {%- set ns.calls = ns.calls + 1 %}
    {%- set arguments = call.function.arguments %}
{{ call.function.name }}({{ arguments if arguments is string else arguments | tojson }}) {{- '#%d' % ns.calls }}
  {%- endfor %}
{%- endfor %}
{{ eos_token if not add_generation_prompt else '[ASSISTANT]' }}
""",
}


def compare(source, folder):
    requests = chat_templates.cases()
    texts = chat_templates.render(source, list(requests.values()), folder)
    rendered = 0
    for (name, request), text in zip(requests.items(), texts):
        expected = chat_templates.reference(source, request)
        assert text == expected, name
        rendered += expected is not None
    return rendered


@pytest.mark.parametrize("name", OWN)
def test_templates_of_our_own_render_as_in_jinja2(name, tmp_path):
    assert compare(OWN[name], tmp_path) > 100


def test_published_templates_render_as_in_jinja2(tmp_path, subtests):
    templates = chat_templates.published()
    if not templates:
        pytest.skip("the package with the published templates cannot be had here")
    rendered = {}
    for name, source in templates.items():
        with subtests.test(msg=name):
            rendered[name] = compare(source, tmp_path)
    # A template that refuses everything shows nothing; two of them want what no request has.
    assert sum(count > 0 for count in rendered.values()) >= 65
