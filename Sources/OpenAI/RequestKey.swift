// The keys of a request body that the frontend reads.

internal import Base
internal import JSON

/// The fields that are read; the raw value is the bit that marks a key as seen.
enum RequestKey: UInt16 {
  case model = 1
  case messages = 2
  case prompt = 4
  case stream = 8
  case streamOptions = 16
  case choices = 32
  case maxTokens = 64
  case maxCompletionTokens = 128
  case tools = 256
  case cacheSalt = 512
  case extensions = 1024

  var name: StaticString {
    switch self {
    case .model: "model"
    case .messages: "messages"
    case .prompt: "prompt"
    case .stream: "stream"
    case .streamOptions: "stream_options"
    case .choices: "n"
    case .maxTokens: "max_tokens"
    case .maxCompletionTokens: "max_completion_tokens"
    case .tools: "tools"
    case .cacheSalt: "cache_salt"
    case .extensions: "nvext"
    }
  }

  /// The key that `text` may be, judged by its length; the caller compares the name.
  private static func candidate(_ text: UnsafeRawBufferPointer) -> RequestKey? {
    switch text.count {
    case 1: .choices
    case 5: text[0] == UInt8(ascii: "m") ? .model : text[0] == UInt8(ascii: "t") ? .tools : .extensions
    case 6: text[0] == UInt8(ascii: "s") ? .stream : .prompt
    case 8: .messages
    case 10: text[0] == UInt8(ascii: "m") ? .maxTokens : .cacheSalt
    case 14: .streamOptions
    case 21: .maxCompletionTokens
    default: nil
    }
  }

  /// The key that `key` is, escapes decoded, if `endpoint` reads it.
  static func recognise(_ key: JSONString, in body: UnsafeRawBufferPointer, endpoint: Endpoint) -> RequestKey?
  {
    let known: RequestKey?
    if key.hasEscapes {
      var decoded = ByteBuffer(capacity: key.count)
      decoded.append(decoding: body.slice(key.range))
      known = candidate(decoded.readable).flatMap { key.equals($0.name, in: body) ? $0 : nil }
    } else {
      let text = body.slice(key.range)
      known = candidate(text).flatMap { text.equals($0.name) ? $0 : nil }
    }
    switch (known, endpoint) {
    case (.messages, .completions), (.tools, .completions), (.prompt, .chatCompletions): return nil
    default: return known
    }
  }
}
