// The keys of a request body that the frontend reads.

internal import Base
internal import JSON

/// The fields that are read; the raw value is the bit that marks a key as seen.
enum RequestKey: UInt32 {
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
  case input = 2048
  case instructions = 4096
  case maxOutputTokens = 8192
  case previousResponse = 16384
  case documents = 32768

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
    case .input: "input"
    case .instructions: "instructions"
    case .maxOutputTokens: "max_output_tokens"
    case .previousResponse: "previous_response_id"
    case .documents: "documents"
    }
  }

  /// The key that `text` may be, judged by its length; the caller compares the name.
  private static func candidate(_ text: UnsafeRawBufferPointer) -> RequestKey? {
    switch text.count {
    case 1: .choices
    case 5:
      switch text[0] {
      case UInt8(ascii: "m"): .model
      case UInt8(ascii: "t"): .tools
      case UInt8(ascii: "i"): .input
      default: .extensions
      }
    case 6: text[0] == UInt8(ascii: "s") ? .stream : .prompt
    case 8: .messages
    case 9: .documents
    case 10: text[0] == UInt8(ascii: "m") ? .maxTokens : .cacheSalt
    case 12: .instructions
    case 14: .streamOptions
    case 17: .maxOutputTokens
    case 20: .previousResponse
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
    return known.flatMap { $0.rawValue & read(by: endpoint) == 0 ? nil : $0 }
  }

  /// The keys that are read of a body of `endpoint`, as bits.
  private static func read(by endpoint: Endpoint) -> UInt32 {
    switch endpoint {
    case .chatCompletions, .messages, .countTokens: chat
    case .completions: completion
    case .embeddings: plain | input.rawValue | messages.rawValue
    case .responses: response
    case .rerank: plain | documents.rawValue
    case .score: plain
    }
  }

  /// What every route reads: where a caller could name a salt, it is seen.
  private static let plain = model.rawValue | cacheSalt.rawValue | extensions.rawValue
  private static let text =
    plain | stream.rawValue | streamOptions.rawValue | choices.rawValue | maxTokens.rawValue
    | maxCompletionTokens.rawValue
  private static let chat = text | messages.rawValue | tools.rawValue
  private static let completion = text | prompt.rawValue
  private static let response =
    plain | stream.rawValue | input.rawValue | instructions.rawValue | tools.rawValue
    | maxOutputTokens.rawValue | previousResponse.rawValue
}
