// A block of a user's message, or of a tool's result, as a part of a chat's message.

internal import Base
internal import JSON
internal import OpenAI

/// A part of a user's message.
enum Part {
  /// The contents of a JSON string.
  case text(UnsafeRawBufferPointer)
  /// An image by its URL.
  case image(url: UnsafeRawBufferPointer)
  /// An image in base 64.
  case data(type: UnsafeRawBufferPointer, UnsafeRawBufferPointer)

  init(_ type: String, _ block: Members, _ place: String) throws(APIError) {
    switch type {
    case "text":
      guard let text = block["text"]?.contents else { throw .missing("\(place).text") }
      self = .text(text)
    case "image":
      self = try Part.image(block, place)
    case "document":
      let source = try block["source"]?.members()
      guard let source, let kind = source["type"], kind.spells("text") || kind.spells("content"),
        let text = (kind.spells("text") ? source["data"] : source["content"])?.contents
      else {
        throw .invalidValue("\(place).source", reason: "only documents that are plain text are supported")
      }
      self = .text(text)
    default:
      throw Part.unsupported(type, place)
    }
  }

  private static func image(_ block: Members, _ place: String) throws(APIError) -> Part {
    let source = try block["source"]?.members()
    if let source, source["type"]?.spells("base64") == true, let data = source["data"]?.contents,
      let type = source["media_type"]?.contents
    {
      return .data(type: type, data)
    }
    if let source, source["type"]?.spells("url") == true, let url = source["url"]?.contents {
      return .image(url: url)
    }
    throw .invalidValue("\(place).source", reason: "it must be of type 'base64' or 'url'")
  }

  static func unsupported(_ type: String, _ place: String) -> APIError {
    .invalidValue("\(place).type", reason: "blocks of type '\(type.prefix(64))' are not supported here")
  }

  func write(to out: inout ByteBuffer) {
    switch self {
    case .text(let text):
      out.append("{\"type\":\"text\",\"text\":\"" as StaticString)
      out.append(text)
      out.append("\"}" as StaticString)
    case .image(let url):
      out.append("{\"type\":\"image_url\",\"image_url\":{\"url\":\"" as StaticString)
      out.append(url)
      out.append("\"}}" as StaticString)
    case .data(let type, let data):
      out.append("{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:" as StaticString)
      out.append(type)
      out.append(";base64," as StaticString)
      out.append(data)
      out.append("\"}}" as StaticString)
    }
  }
}
