// The tokenizer of a model: its files read at start, shared by all threads, encoders lent to them.

internal import Base
internal import Glibc
internal import JSON
internal import Synchronization
package import Tokenizer

/// Why `--model-path` gives no tokenizer.
package enum ModelTokenizerError: Error, Sendable, Equatable {
  /// The folder is not there: a mistake to stop at.
  case noFolder(String)
  /// A file asks for what is not supported, or is not what it should be; prompts are routed by bytes then.
  case refused(String)
}

/// A model's vocabulary and chat templates, immutable, and the encoders that are not in use.
package final class ModelTokenizer: Sendable, Equatable {
  /// What every encoder of the model works with.
  package struct Parts: Sendable {
    package let tokenizer: Tokenizer
    let cache: EncodedPrefixCache
    let template: ChatTemplate?
    /// For requests with tools, where the model has one of its own for them.
    let toolTemplate: ChatTemplate?
    let beginToken: String?
    let endToken: String?
  }

  package let parts: Parts
  /// The longest input in tokens that the model's files name.
  package let lengthMax: Int?
  private let idle = Mutex<[PromptEncoder]>([])
  /// Idle encoders beyond this many are let go; a warm one holds 3.2 MiB.
  private static let idleMax = 4

  package var tokenizer: Tokenizer { parts.tokenizer }

  /// What its cache of prompts' chunks did so far.
  package var cacheStatistics: EncodedPrefixCache.Statistics { parts.cache.statistics }

  package static func == (left: ModelTokenizer, right: ModelTokenizer) -> Bool { left === right }

  /// Reads the model's files, given as their bytes. `template` goes before those in `config` (transformers).
  package init(
    tokenizer: [UInt8], config: [UInt8]?, template: [UInt8]? = nil, model: [UInt8]? = nil, seed: UInt64
  ) throws(ModelTokenizerError) {
    let read = try Self.tokenizer(tokenizer)
    let found = try Self.config(config)
    let plain = try Self.template(template ?? found.chatTemplate().map { Array($0.utf8) })
    let tools = template == nil ? found.chatTemplate(named: "tool_use").map { Array($0.utf8) } : nil
    parts = Parts(
      tokenizer: read, cache: EncodedPrefixCache(seed: seed), template: plain,
      toolTemplate: try Self.template(tools), beginToken: found.beginToken, endToken: found.endToken)
    lengthMax = Self.positions(model) ?? found.modelMaxLength
  }

  /// Loads the tokenizer from the model's folder.
  package convenience init(folder: String, seed: UInt64) throws(ModelTokenizerError) {
    var status = stat()
    guard stat(folder, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { throw .noFolder(folder) }
    func bytes(_ name: String, _ limit: Int) throws(ModelTokenizerError) -> [UInt8]? {
      try Self.read("\(folder)/\(name)", name, limit)
    }
    guard let tokenizer = try bytes("tokenizer.json", TokenizerLimits.fileBytesMax) else {
      throw .refused("tokenizer.json is missing")
    }
    try self.init(
      tokenizer: tokenizer, config: try bytes("tokenizer_config.json", TokenizerLimits.configBytesMax),
      template: try bytes("chat_template.jinja", ChatTemplateLimits().sourceBytesMax),
      model: try bytes("config.json", TokenizerLimits.configBytesMax), seed: seed)
  }

  /// What there is, in words for a log line and for `doctor`.
  package var summary: String {
    let template = parts.template == nil ? "no chat template" : "a chat template"
    return "\(parts.tokenizer.idsEnd) ids, \(template)"
  }

  // MARK: Encoders

  /// Takes an idle encoder, or makes one. Give it back by ``putBack(_:)``.
  package func takeEncoder() -> PromptEncoder { idle.withLock { $0.popLast() } ?? PromptEncoder(parts) }

  /// Gives an encoder of ``takeEncoder()`` back.
  package func putBack(_ encoder: PromptEncoder) {
    encoder.trim()
    idle.withLock { if $0.count < Self.idleMax { $0.append(encoder) } }
  }

  // MARK: Files

  /// The array's own lending loses the type of what is thrown.
  private static func lend<Made, Failure: Error>(
    _ bytes: [UInt8], _ make: (UnsafeRawBufferPointer) throws(Failure) -> Made
  ) throws(Failure) -> Made {
    let result: Result<Made, Failure> = bytes.withUnsafeBytes { bytes in
      Result { () throws(Failure) in try make(bytes) }
    }
    return try result.get()
  }

  private static func tokenizer(_ bytes: [UInt8]) throws(ModelTokenizerError) -> Tokenizer {
    do throws(TokenizerError) {
      return try lend(bytes) { bytes throws(TokenizerError) in try Tokenizer(json: bytes) }
    } catch {
      throw .refused("tokenizer.json: \(error.explanation)")
    }
  }

  private static func config(_ bytes: [UInt8]?) throws(ModelTokenizerError) -> TokenizerConfig {
    guard let bytes else { return TokenizerConfig() }
    do throws(TokenizerError) {
      return try lend(bytes) { bytes throws(TokenizerError) in try TokenizerConfig(json: bytes) }
    } catch {
      throw .refused("tokenizer_config.json: \(error.explanation)")
    }
  }

  private static func template(_ source: [UInt8]?) throws(ModelTokenizerError) -> ChatTemplate? {
    guard let source else { return nil }
    do throws(ChatTemplateError) {
      return try lend(source) { bytes throws(ChatTemplateError) in try ChatTemplate(source: bytes) }
    } catch {
      throw .refused("the chat template, line \(error.line): \(error.message)")
    }
  }

  /// `max_position_embeddings` of a `config.json`, from which vLLM takes its longest input.
  private static func positions(_ bytes: [UInt8]?) -> Int? {
    guard let value = bytes?.withUnsafeBytes({ try? JSONValue.parse($0) }) else { return nil }
    return (value["max_position_embeddings"] ?? value["text_config"]?["max_position_embeddings"])?.integer
  }

  /// The bytes of a file; nil when it is not there.
  private static func read(
    _ path: String, _ name: String, _ limit: Int
  ) throws(ModelTokenizerError) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT { return nil }
      throw .refused("\(name): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw .refused("\(name) is no file")
    }
    guard status.st_size <= limit else { throw .refused("\(name) is larger than \(limit) bytes") }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    var filled = 0
    while filled < bytes.count {
      let count = bytes.withUnsafeMutableBytes { buffer in
        buffer.baseAddress.map { Glibc.read(descriptor, $0 + filled, buffer.count - filled) } ?? 0
      }
      guard count > 0 else { throw .refused("\(name) cannot be read to its end") }
      filled += count
    }
    return bytes
  }
}
