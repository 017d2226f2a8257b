// Writes a chat out as one text, as an engine's template would.

internal import Base
internal import JSON

/// The ChatML layout: each message between markers that name its role, tools in front, the answer's opening at the end.
/// A chat that goes on has the text it had, less that opening, as its prefix: what prefix caches live on.
struct ChatTemplate: ~Copyable {
  private let body: UnsafeRawBufferPointer
  var text = ByteBuffer()

  init(body: UnsafeRawBufferPointer) {
    self.body = body
  }

  /// Writes the chat whose tools and messages lie at these ranges of a valid body.
  mutating func write(tools: Range<Int>?, messages: Range<Int>) throws(JSONError) {
    if let tools {
      text.append("<|im_start|>tools\n" as StaticString)
      text.append(minified: body.slice(tools))
      text.append("<|im_end|>\n" as StaticString)
    }
    let bytes = body.slice(messages)
    var scanner = JSONScanner(bytes)
    try scanner.openArray()
    while try scanner.nextElement() { try write(message: &scanner, in: bytes) }
    text.append("<|im_start|>assistant\n" as StaticString)
  }

  private mutating func write(
    message scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
  ) throws(JSONError) {
    // Keys come in any order; the role goes first.
    var role: Range<Int>?
    var content = ByteBuffer()
    try scanner.openObject()
    while let key = try scanner.nextKey() {
      if key.equals("role", in: bytes) {
        role = try scanner.string().range
      } else if key.equals("content", in: bytes) {
        try write(content: &scanner, in: bytes, to: &content)
      } else if key.equals("tool_calls", in: bytes) {
        content.append(minified: bytes.slice(try scanner.skipValue()))
      } else {
        try scanner.skipValue()
      }
    }
    text.append("<|im_start|>" as StaticString)
    if let role { text.append(decoding: bytes.slice(role)) }
    text.append(UInt8(ascii: "\n"))
    text.append(content.readable)
    text.append("<|im_end|>\n" as StaticString)
  }

  /// Content is a text or a list of parts; of parts that hold no text only the JSON is known.
  private func write(
    content scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer, to buffer: inout ByteBuffer
  ) throws(JSONError) {
    switch try scanner.kind() {
    case .string:
      buffer.append(decoding: bytes.slice(try scanner.string().range))
    case .array:
      try scanner.openArray()
      while try scanner.nextElement() { try write(part: &scanner, in: bytes, to: &buffer) }
    default:
      try scanner.skipValue()
    }
  }

  private func write(
    part scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer, to buffer: inout ByteBuffer
  ) throws(JSONError) {
    guard try scanner.objectOrSkip() else { return }
    let start = scanner.offset - 1
    var contents: Range<Int>?
    while let key = try scanner.nextKey() {
      if key.equals("text", in: bytes), case .string = try scanner.kind() {
        contents = try scanner.string().range
      } else {
        try scanner.skipValue()
      }
    }
    if let contents {
      buffer.append(decoding: bytes.slice(contents))
    } else {
      buffer.append(minified: bytes.slice(start..<scanner.offset))
    }
  }
}
