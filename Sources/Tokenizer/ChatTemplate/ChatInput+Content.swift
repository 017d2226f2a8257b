// A request as the values its template sees: the parts of a message's content, and media among them.

internal import Base
internal import JSON

/// One part of a message's content.
enum ChatPart {
  case text(JinjaText)
  /// An image or the like: its modality, and a text that stands for it and differs with it.
  case media(StaticString, JinjaText)
  /// What templates resolve by name, as it came.
  case other(JinjaDict)
}

extension ChatInput {
  /// The parts of a content that is text, a list or nothing.
  func parts(_ content: JinjaValue?) throws(ChatTemplateError) -> [ChatPart] {
    switch content {
    case nil, .none?, .undefined?: return []
    case .string(let text)?: return [.text(text)]
    case .list(let list)?:
      var parts: [ChatPart] = []
      for item in list.items {
        if let part = try part(item) { parts.append(part) }
      }
      return parts
    default: throw ChatTemplateError(.input, "the content of a message must be a string or an array")
    }
  }

  private func part(_ item: JinjaValue) throws(ChatTemplateError) -> ChatPart? {
    if case .string(let text) = item { return .text(text) }
    guard case .dict(let part) = item else {
      throw ChatTemplateError(.input, "a part of a content must be an object")
    }
    let type = part.value("type")?.text ?? .empty
    switch type.string {
    case "text", "input_text", "output_text":
      return part.value("text")?.text.map { .text($0) }
    case "refusal", "thinking":
      return part.value(type)?.text.map { .text($0) }
    case "tool_reference": return .other(part)
    default: break
    }
    for (key, modality) in ChatInput.media {
      if let value = part.value(key) { return .media(modality, try mark(modality, value)) }
    }
    throw ChatTemplateError(.input, "unknown part of a content: '\(type.string)'")
  }

  private static let media: [(StaticString, StaticString)] = [
    ("image_url", "image"), ("input_image", "image"), ("image", "image"), ("image_embeds", "image"),
    ("image_pil", "image"), ("audio_url", "audio"), ("input_audio", "audio"), ("audio", "audio"),
    ("audio_embeds", "audio"), ("video_url", "video"), ("video", "video"), ("video_embeds", "video"),
  ]

  /// A text that stands for a medium and carries its hash, so that other media make other tokens and block hashes. The
  /// engine's own tokens for it are not known here; up to the medium the prediction is exact.
  private func mark(_ modality: StaticString, _ value: JinjaValue) throws(ChatTemplateError) -> JinjaText {
    var bytes = ByteBuffer()
    // The address or the data itself, wherever it is given; how it is to be looked at changes nothing.
    var identity = value
    if case .dict(let dict) = value { identity = dict.value("url") ?? dict.value("data") ?? value }
    JinjaPrinter.append(identity, to: &bytes)
    let hash = XXH3.hash(bytes.readable, seed: 1337)
    bytes.removeAll()
    bytes.append("<|media:" as StaticString)
    bytes.append(modality)
    bytes.append(UInt8(ascii: ":"))
    bytes.append(hex: hash)
    bytes.append("|>" as StaticString)
    return try arena.copy(bytes.readable)
  }

  /// Parts as the list that templates of the OpenAI format take: each medium is followed by the text that stands for it.
  func list(_ parts: [ChatPart], withText: Bool = true) throws(ChatTemplateError) -> JinjaValue {
    var items: [JinjaValue] = []
    for part in parts {
      switch part {
      case .text(let text): items.append(textPart(text))
      case .other(let dict): items.append(.dict(dict))
      case .media(let modality, let mark):
        let dict = JinjaDict()
        dict.set("type", .string(JinjaText(modality)))
        items.append(.dict(dict))
        items.append(textPart(mark))
      }
    }
    try arena.charge(160 * items.count)
    return try makeList(items)
  }

  func textPart(_ text: JinjaText) -> JinjaValue {
    let dict = JinjaDict()
    dict.set("type", .string(JinjaText("text")))
    dict.set("text", .string(text))
    return .dict(dict)
  }

  /// The texts with `separator` between them.
  func joined(_ texts: [JinjaText], _ separator: StaticString) throws(ChatTemplateError) -> JinjaText {
    if texts.count == 1 { return texts[0] }
    var bytes = ByteBuffer()
    for (index, text) in texts.enumerated() {
      if index > 0 { bytes.append(separator) }
      bytes.append(text.bytes)
    }
    return try arena.copy(bytes.readable)
  }

  /// The value of a JSON text inside a string; nil when it is none.
  func decoded(_ text: JinjaText) -> JinjaValue? {
    do throws(ChatTemplateError) {
      return try JinjaInputReader.read(text.bytes, "arguments", arena: arena)
    } catch {
      return nil
    }
  }
}
