// The bounds of a template: a template is input, and so is what it is given.

/// Bounds of compiling and rendering a chat template. Each has its own reason in ``ChatTemplateError``.
package struct ChatTemplateLimits: Sendable {
  /// Bytes of template text. The largest published templates have about 20 KB.
  package var sourceBytesMax = 1 << 20

  /// How deep statements and expressions may nest in the text, parentheses included.
  package var syntaxDepthMax = 160

  /// Evaluated statements and expressions of one rendering, besides four for each byte of the messages; long operations
  /// count by what they cost. A long chat with tools needs some ten thousand; the bound is met within half a second.
  package var stepsMax = 4_000_000

  /// Bytes of rendered text.
  package var outputBytesMax = 128 << 20

  /// Bytes of strings, lists and mappings made while rendering, the decoded input included.
  package var memoryBytesMax = 256 << 20

  /// How deep evaluation may nest: statements, expressions and macro calls together.
  package var evaluationDepthMax = 600

  /// How deep lists and mappings may nest.
  package var valueDepthMax = 200

  /// Elements of one `range()`, as jinja2's sandbox has it.
  package var rangeLengthMax = 100_000

  package init() {}
}
