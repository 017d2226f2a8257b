// The chat that vLLM makes of a request to `/v1/responses`, where that is known.

package import Base
internal import JSON

/// Translates the `instructions` and the `input` of a response.
///
/// vLLM renders them by the model's chat template: the instructions as a system message, a text as the user's, and items
/// that are messages as those messages. How tools, calls and their outputs, reasoning and images get into a prompt differs
/// between its releases, and what came before a `previous_response_id` only the engine knows: of those nothing is made.
package struct ResponsesChat {
  private let body: UnsafeRawBufferPointer
  private var input: Range<Int>?
  private var instructions: Range<Int>?
  private var isKnown = true

  /// Appends `{"messages":[...]}`, as a chat's body has it. False when only the engine knows the prompt; what was appended
  /// then means nothing.
  package static func write(_ body: UnsafeRawBufferPointer, into out: inout ByteBuffer) -> Bool {
    var chat = ResponsesChat(body: body)
    do throws(JSONError) {
      try chat.read()
      guard chat.isKnown else { return false }
      return try chat.writeMessages(into: &out)
    } catch {
      return false
    }
  }

  private init(body: UnsafeRawBufferPointer) { self.body = body }

  private mutating func read() throws(JSONError) {
    var scanner = JSONScanner(body)
    try scanner.openObject()
    while let key = try scanner.nextKey() {
      let kind = try scanner.kind()
      let value = try scanner.skipValue()
      let given: Range<Int>? = if case .null = kind { nil } else { value }
      switch key.decoded(in: body) {
      case "input": input = given
      case "instructions": instructions = given
      case "tools": if let given, !body.slice(given).isEmptyArray { isKnown = false }
      case "reasoning": if let given, try asksForEffort(in: given, kind) { isKnown = false }
      case "previous_response_id", "previous_input_messages", "conversation", "prompt", "chat_template",
        "chat_template_kwargs", "documents":
        if given != nil { isKnown = false }
      default: break
      }
    }
  }

  /// Later releases tell the template how hard to think.
  private func asksForEffort(in value: Range<Int>, _ kind: JSONKind) throws(JSONError) -> Bool {
    guard case .object = kind else { return true }
    let bytes = body.slice(value)
    var scanner = JSONScanner(bytes)
    var isAsked = false
    try scanner.openObject()
    while let key = try scanner.nextKey() {
      let isNull = if case .null = try scanner.kind() { true } else { false }
      try scanner.skipValue()
      if key.equals("effort", in: bytes), !isNull { isAsked = true }
    }
    return isAsked
  }

  private func writeMessages(into out: inout ByteBuffer) throws(JSONError) -> Bool {
    guard let input else { return false }
    out.append("{\"messages\":[" as StaticString)
    let bytes = body.slice(input)
    var scanner = JSONScanner(bytes)
    var isFirst = true
    if let instructions, instructions.count > 2 {
      guard body[instructions.lowerBound] == UInt8(ascii: "\"") else { return false }
      Self.begin("\"system\"", &isFirst, &out)
      out.append(body.slice(instructions))
      out.append(UInt8(ascii: "}"))
    }
    switch try scanner.kind() {
    case .string:
      Self.begin("\"user\"", &isFirst, &out)
      out.append(bytes)
      out.append(UInt8(ascii: "}"))
    case .array:
      try scanner.openArray()
      while try scanner.nextElement() {
        guard let item = try Item(&scanner, in: bytes) else { return false }
        Self.begin(nil, &isFirst, &out)
        out.append(bytes.slice(item.role))
        out.append(",\"content\":" as StaticString)
        item.writeContent(of: bytes, into: &out)
        out.append(UInt8(ascii: "}"))
      }
    default: return false
    }
    out.append("]}" as StaticString)
    return !isFirst
  }

  /// Writes up to a message's role, or up to its content where the role is `role`.
  private static func begin(_ role: StaticString?, _ isFirst: inout Bool, _ out: inout ByteBuffer) {
    if !isFirst { out.append(UInt8(ascii: ",")) }
    isFirst = false
    out.append("{\"role\":" as StaticString)
    guard let role else { return }
    out.append(role)
    out.append(",\"content\":" as StaticString)
  }

  /// An item of the input that is a message. Ranges hold whole JSON values.
  private struct Item {
    var role = 0..<0
    /// A text, or the texts of its parts.
    private var texts: [Range<Int>] = []
    private var hasParts = false

    /// Passes the next item; nil when only the engine knows what becomes of it.
    init?(_ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer) throws(JSONError) {
      guard try scanner.objectOrSkip() else { return nil }
      var isKnown = true
      var isAssistant = false
      while let key = try scanner.nextKey() {
        if case .null = try scanner.kind() {
          try scanner.literal()
          continue
        }
        switch key.decoded(in: bytes) {
        case "role":
          let text = try Self.text(&scanner, in: bytes, ["user", "assistant", "system", "developer"])
          guard let text else { return nil }
          role = text.range
          isAssistant = text.word == "assistant"
        case "content": if try !readContent(&scanner, in: bytes) { isKnown = false }
        case "type": if try Self.text(&scanner, in: bytes, ["message"]) == nil { isKnown = false }
        // One that is not complete is to be gone on with.
        case "status": if try Self.text(&scanner, in: bytes, ["completed"]) == nil { isKnown = false }
        case "id": try scanner.skipValue()
        default: return nil
        }
      }
      // Of an answer of several parts some releases take the first one only.
      guard isKnown, !role.isEmpty, !texts.isEmpty, !isAssistant || texts.count == 1 else { return nil }
      if isAssistant { hasParts = false }
    }

    private static func text(
      _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer, _ known: [String]
    ) throws(JSONError) -> (range: Range<Int>, word: String)? {
      guard let string = try scanner.stringOrSkip() else { return nil }
      let word = string.decoded(in: bytes)
      guard known.contains(word) else { return nil }
      return ((string.range.lowerBound - 1)..<(string.range.upperBound + 1), word)
    }

    /// False when it is neither text nor parts of text.
    private mutating func readContent(
      _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
    ) throws(JSONError) -> Bool {
      texts = []
      hasParts = false
      if case .string = try scanner.kind() {
        texts = [try scanner.skipValue()]
        return true
      }
      hasParts = true
      guard try scanner.arrayOrSkip() else { return false }
      var isKnown = true
      while try scanner.nextElement() {
        guard try scanner.objectOrSkip() else { return false }
        var isText = false
        var text: Range<Int>?
        while let key = try scanner.nextKey() {
          let isType = key.equals("type", in: bytes)
          if isType {
            isText = try Self.text(&scanner, in: bytes, ["input_text", "output_text", "text"]) != nil
          } else if key.equals("text", in: bytes), case .string = try scanner.kind() {
            text = try scanner.skipValue()
          } else {
            try scanner.skipValue()
          }
        }
        if isText, let text { texts.append(text) } else { isKnown = false }
      }
      return isKnown
    }

    func writeContent(of bytes: UnsafeRawBufferPointer, into out: inout ByteBuffer) {
      guard hasParts else { return out.append(bytes.slice(texts[0])) }
      for (index, text) in texts.enumerated() {
        out.append(index == 0 ? "[" as StaticString : ",")
        out.append("{\"type\":\"text\",\"text\":" as StaticString)
        out.append(bytes.slice(text))
        out.append(UInt8(ascii: "}"))
      }
      out.append(UInt8(ascii: "]"))
    }
  }
}

extension UnsafeRawBufferPointer {
  /// For a JSON value.
  fileprivate var isEmptyArray: Bool {
    first == UInt8(ascii: "[") && dropFirst().dropLast().allSatisfy { $0 <= 0x20 }
  }
}
