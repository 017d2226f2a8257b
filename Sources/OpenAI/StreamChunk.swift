// One chunk of a chat's or completion's stream, taken apart so that another worker's chunks can follow it as its own.

package import Base
internal import JSON

/// What a chunk holds, as positions in its bytes.
package struct StreamChunk {
  /// The values of `id` and `created`, and of `usage` where it is an object.
  package private(set) var id: Range<Int>?
  package private(set) var created: Range<Int>?
  private var usage: Range<Int>?
  /// The contents of `content` or `text` between its quotes, still escaped; nil without any.
  package private(set) var text: Range<Int>?
  /// The member `role` of the delta with its comma.
  private var role: Range<Int>?
  package private(set) var choiceCount = 0
  /// Something else than text was generated, or is told with it: a tool call, reasoning, a refusal, log probabilities.
  package private(set) var hasMoreThanText = false
  /// A choice has come to its end, or the worker tells of an error.
  package private(set) var isLast = false

  /// Nil where `data` is no JSON object.
  package init?(_ data: UnsafeRawBufferPointer) {
    var scanner = JSONScanner(data)
    do throws(JSONError) {
      guard case .object = try scanner.kind() else { return nil }
      try read(&scanner, data)
      try scanner.finish()
    } catch {
      return nil
    }
  }

  package var hasRole: Bool { role != nil }

  /// True when a caller learns nothing from it but the role.
  package var isRoleAlone: Bool { role != nil && text == nil && !hasMoreThanText && !isLast }

  private mutating func read(_ scanner: inout JSONScanner, _ data: UnsafeRawBufferPointer) throws(JSONError) {
    try scanner.openObject()
    while let key = try scanner.nextKey() {
      if key.equals("id", in: data) {
        id = try scanner.skipValue()
      } else if key.equals("created", in: data) {
        created = try scanner.skipValue()
      } else if key.equals("usage", in: data) {
        let isObject = try scanner.kind() == .object
        let value = try scanner.skipValue()
        if isObject { usage = value }
      } else if key.equals("error", in: data) {
        if try scanner.kind() != .null { isLast = true }
        try scanner.skipValue()
      } else if key.equals("choices", in: data), try scanner.kind() == .array {
        try scanner.openArray()
        while try scanner.nextElement() {
          choiceCount += 1
          if try scanner.objectOrSkip() { try readChoice(&scanner, data) }
        }
      } else {
        try scanner.skipValue()
      }
    }
  }

  private mutating func readChoice(
    _ scanner: inout JSONScanner, _ data: UnsafeRawBufferPointer
  ) throws(JSONError) {
    while let key = try scanner.nextKey() {
      if key.equals("text", in: data) {
        try readText(&scanner)
      } else if key.equals("delta", in: data) {
        if try scanner.objectOrSkip() { try readDelta(&scanner, data) }
      } else if key.equals("finish_reason", in: data) {
        if try scanner.kind() != .null { isLast = true }
        try scanner.skipValue()
      } else {
        if key.equals("logprobs", in: data), try scanner.kind() != .null { hasMoreThanText = true }
        try scanner.skipValue()
      }
    }
  }

  private mutating func readDelta(
    _ scanner: inout JSONScanner, _ data: UnsafeRawBufferPointer
  ) throws(JSONError) {
    while let key = try scanner.nextKey() {
      if key.equals("content", in: data) {
        try readText(&scanner)
      } else if key.equals("role", in: data) {
        let value = try scanner.skipValue()
        role = Self.member(from: key.range.lowerBound - 1, to: value.upperBound, data)
      } else {
        // An engine may write members that it does not use as null or empty.
        switch try scanner.kind() {
        case .null: try scanner.skipValue()
        case .string, .array, .object:
          if try scanner.skipValue().count > 2 { hasMoreThanText = true }
        default: try scanner.skipValue()
        }
      }
    }
  }

  private mutating func readText(_ scanner: inout JSONScanner) throws(JSONError) {
    guard let contents = try scanner.stringOrSkip() else { return }
    if text == nil, contents.count > 0 { text = contents.range }
  }

  /// The member from its key's quote to its value's end, with the comma that goes when it does.
  private static func member(from start: Int, to end: Int, _ data: UnsafeRawBufferPointer) -> Range<Int> {
    func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d }
    var end = end
    while end < data.count, isSpace(data[end]) { end += 1 }
    if end < data.count, data[end] == UInt8(ascii: ",") { return start..<end + 1 }
    var start = start
    while start > 0, isSpace(data[start - 1]) { start -= 1 }
    if start > 0, data[start - 1] == UInt8(ascii: ",") { start -= 1 }
    return start..<end
  }

  // MARK: As another's

  /// Appends the chunk as the continuation of another worker's stream: with that one's `id` and `created` (empty leaves the
  /// chunk's own), without the role unless it `keepsRole`, and with usage that counts the `carried` tokens as generated and not as prompt.
  package func write(
    _ data: UnsafeRawBufferPointer, id ownID: [UInt8], created ownCreated: [UInt8], carried: Int,
    keepsRole: Bool, into output: inout ByteBuffer
  ) {
    var position = 0
    while let (range, kind) = nextEdit(from: position, ownID.isEmpty, ownCreated.isEmpty, keepsRole) {
      output.append(data.slice(position..<range.lowerBound))
      switch kind {
      case .id: output.append(ownID)
      case .created: output.append(ownCreated)
      case .role: break
      case .usage:
        let value = data.slice(range)
        if var usage = Usage.parse(value) {
          usage.promptTokens = max(0, usage.promptTokens - carried)
          usage.completionTokens += carried
          if let cached = usage.cachedTokens { usage.cachedTokens = min(cached, usage.promptTokens) }
          output.append(usage)
        } else {
          output.append(value)
        }
      }
      position = range.upperBound
    }
    output.append(data.slice(position..<data.count))
  }

  private enum Edit { case id, created, role, usage }

  /// The first edit at or behind `position`; ranges never overlap.
  private func nextEdit(
    from position: Int, _ keepsID: Bool, _ keepsCreated: Bool, _ keepsRole: Bool
  ) -> (Range<Int>, Edit)? {
    var next: (range: Range<Int>, edit: Edit)?
    func consider(_ range: Range<Int>?, _ edit: Edit) {
      guard let range, range.lowerBound >= position else { return }
      if let next, next.range.lowerBound <= range.lowerBound { return }
      next = (range, edit)
    }
    if !keepsID { consider(id, .id) }
    if !keepsCreated { consider(created, .created) }
    if !keepsRole { consider(role, .role) }
    consider(usage, .usage)
    return next.map { ($0.range, $0.edit) }
  }
}
