// Shared by the tests of this room.

import Base
import JSON
import OpenAI

@testable import Anthropic

func withBytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
  try Array(text.utf8).withUnsafeBytes { try body($0) }
}

/// The chat that a message is translated to.
func chat(_ message: String, isCount: Bool = false, stripsPreamble: Bool = true) throws -> String {
  try withBytes(message) {
    try MessagesRequest.chat(from: $0, isCount: isCount, stripsPreamble: stripsPreamble).text
  }
}

func json(_ text: String) throws -> JSONValue { try withBytes(text) { try JSONValue.parse($0) } }

/// Why a message is refused; nil when it is not.
func refusal(_ message: String) -> APIError? {
  do {
    _ = try chat(message)
    return nil
  } catch {
    return error as? APIError
  }
}
