// Helpers for the tests of this room.

import Base
import Foundation
import JSON
import Testing

@testable import OpenAI

/// Parses `text` and returns the error, nil when it was accepted.
func refusal(_ text: [UInt8], _ endpoint: Endpoint = .chatCompletions) -> APIError? {
  text.withUnsafeBytes { body in
    do throws(APIError) {
      _ = try InferenceRequest.parse(body, endpoint: endpoint)
      return nil
    } catch {
      return error
    }
  }
}

func refusal(_ text: String, _ endpoint: Endpoint = .chatCompletions) -> APIError? {
  refusal(Array(text.utf8), endpoint)
}

/// Runs `body` over the bytes of `text`.
func withBytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
  try Array(text.utf8).withUnsafeBytes(body)
}

/// What `body` writes, as text.
func written(_ body: (inout ByteBuffer) throws -> Void) rethrows -> String {
  var buffer = ByteBuffer()
  try body(&buffer)
  return buffer.text
}

/// `text` as Foundation reads it.
func object(_ text: String) throws -> NSDictionary {
  try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? NSDictionary)
}
