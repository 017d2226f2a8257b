// Chat templates: statements, scopes and white space.
//
// What is expected was printed by jinja2 3.1.6 as transformers sets it up.

import Testing

@testable import Tokenizer

struct ChatTemplateStatementTests {
  static let statements: [Rendering] = [
    // Loops know where they are.
    Rendering(
      "{% for i in l %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ ',' if not loop.last }}{% endfor %}",
      "1/3:3,2/3:1,3/3:2"),
    Rendering(
      "{% for i in range(3) %}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}",
      "321 2102 101 "),
    Rendering("{% for i in [] %}x{% else %}empty{% endfor %}{% for i in undef %}x{% endfor %}", "empty"),
    Rendering(
      "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for (a, b) in [(1, 2)] %}{{ a + b }}{% endfor %}",
      "b=1;a={'x': [1, 2]};items=I;3"),
    Rendering(
      "{% for x in l if x > 1 %}{{ loop.index0 }}{{ x }}{{ loop.last }}{% endfor %}{% for i in 1, 2 %}{{ i }}{% endfor %}",
      "03False12True12"),
    Rendering(
      "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
      "02"),
    Rendering(
      "{% for i in range(3) %}{{ loop.cycle('a', 'b') }}{{ loop.changed(i // 2) }}{% endfor %}",
      "aTruebFalseaTrue"),
    Rendering(
      "{% for i in [1, 2] %}{% for j in [3, 4] %}{{ loop.index }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}",
      "13 24 113 24 2"),
    Rendering("{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% else %}E{% endfor %}", "3"),
    // A set in a loop is forgotten at the end of each turn.
    Rendering(
      "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i + 5 %}{{ x }};{% endfor %}{{ x }}",
      "16;17;1"),
    Rendering(
      "{% set ns = namespace(a=1) %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.q }}",
      "7"),
    Rendering("{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (p, q) = 'xy' %}{{ p }}{{ q }}", "12xy"),
    Rendering(
      "{% set y %}block {{ n }}{% endset %}[{{ y }}]{% set w | replace('a', 'b') | upper %}aXa{% endset %}{{ w }}",
      "[block 3]BXB"),
    // An if has no variables of its own.
    Rendering(
      "{% if t %}{% set q = 5 %}{% endif %}{{ q }}{% if no %}{% set s = 'other' %}{% endif %}{{ s }}",
      "5Hello World"),
    Rendering("{% if e %}a{% elif z %}b{% elif n %}c{% else %}d{% endif %}", "c"),
    // Macros take arguments as Python's functions do.
    Rendering(
      "{% macro m(a, b=2, c='x') %}[{{ a }},{{ b }},{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=5, a=4) }}{{ m() }}",
      "[1,2,x][1,2,3][4,5,x][,2,x]"),
    Rendering(
      "{% macro v() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ v(1, 2, k=3) }}{{ v(*l, **{'j': 1}) }}",
      "(1, 2){'k': 3}(3, 1, 2){'j': 1}"),
    Rendering(
      "{% macro o(x) %}<{{ caller(x, 2) }}>{% endmacro %}{% call(a, b) o(7) %}{{ a }}{{ b }}{{ n }}{% endcall %}",
      "<723>"),
    Rendering(
      "{% macro rec(k) %}{{ k }}{% if k > 0 %}{{ rec(k - 1) }}{% endif %}{% endmacro %}{{ rec(3) }}",
      "3210"),
    Rendering("{% macro d2(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ d2(1) }}{{ d2(1, 2) }}", "1112"),
    // A macro sees the variables around its definition.
    Rendering(
      "{% set g = 1 %}{% macro see() %}{{ g }}{{ later }}{% endmacro %}{{ see() }}{% set g = 2 %}{% set later = 3 %}{{ see() }}{% for g in [7] %}{{ see() }}{% endfor %}",
      "12323"),
    Rendering(
      "{% set g = 1 %}{% macro sets() %}{% set g = 50 %}{{ g }}{% endmacro %}{{ sets() }}{{ g }}",
      "501"),
    Rendering(
      "{% filter replace('a', 'b') | upper %}aaa{{ n }}{% endfilter %}{% with a=1, b=2 %}{{ a + b }}{% endwith %}{{ a }}",
      "BBB33"),
    Rendering("{% generation %}gen {{ n }}{% set gg = 1 %}{% endgeneration %}{{ gg }}", "gen 3"),
    Rendering(
      "{% raw %}{{ not }} {% this %}{% endraw %}{# comment {{ x }} #}|{% print 1, 2 %}",
      "{{ not }} {% this %}|12"),
    Rendering(
      "{% set gen = l|map('string') %}{{ gen|list }}{{ gen|list }}{{ 'y' if l|select('gt', 100) else 'n' }}",
      "['3', '1', '2'][]y"),
    // White space is trimmed as chat templates have it.
    Rendering("a {%- if t %} b {%- endif -%}  c  {{- 'd' -}}  e", "a bcde"),
    Rendering(
      "x\n  {% if t %}\n  line\n  {% endif %}\n  y {% if t %}\n z\n{% endif %}\n",
      "x\n  line\n  y  z\n"),
    Rendering("    {%+ if t %}keep{% endif +%}\n|\n", "    keep\n|"),
    Rendering("{%- for i in l %}\n  {{ i }}\n{%- endfor %}\n\n  {# c #}\n  {#- d -#}\n z", "  3  1  2\nz"),
    Rendering(
      "{% set x -%}\n   q\n{%- endset %}[{{ x }}]\n{% raw -%}\n  r {{ }}\n{%- endraw %}\n  {{ 1 }}  \n",
      "[q]\nr {{ }}  1  "),
    Rendering("\t{% if 1 %}tab{% endif %}\t\n\r\ncarriage\rreturns\r\n", "tab\t\n\ncarriage\nreturns"),
    Rendering("{% if t -%}\u{a0}\u{2003}x{%- endif %}", "x"),
  ]

  @Test(arguments: statements)
  func statementsRunAsInJinja2(_ expected: Rendering) throws {
    #expect(try expected.render() == expected.text)
  }
}
