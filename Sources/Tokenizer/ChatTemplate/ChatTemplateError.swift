// Why a chat template was refused or could not be rendered.

/// A fault of a chat template or of its input: a typed reason, words for a person, and the template's line.
package struct ChatTemplateError: Error, Sendable, Equatable {
  /// What went wrong; the caller decides by this.
  package enum Reason: String, Sendable, Equatable, CaseIterable {
    // The template cannot be compiled.
    case sourceTooLarge
    case syntax
    case unsupported
    case nestedTooDeep
    // A bound was met while rendering (``ChatTemplateLimits``).
    case tooManySteps
    case outputTooLarge
    case outOfMemory
    case recursionTooDeep
    case valueTooDeep
    case rangeTooLong
    // The template said no, by `raise_exception`.
    case raised
    // What jinja2 raises.
    case undefined
    case type
    case value
    case security
    // The messages, tools or keyword arguments are not what a template can take.
    case input
    case continuation
  }

  /// What went wrong.
  package let reason: Reason

  /// The reason in words. For `.raised` it is the template's own text.
  package let message: String

  /// One-based line of the template; 0 when the fault lies elsewhere.
  package let line: Int

  package init(_ reason: Reason, _ message: String, line: Int = 0) {
    self.reason = reason
    self.message = message
    self.line = line
  }

  /// The same error with the line it was met on, when it had none.
  func at(line: Int) -> ChatTemplateError {
    self.line == 0 ? ChatTemplateError(reason, message, line: line) : self
  }
}
