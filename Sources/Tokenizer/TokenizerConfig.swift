// `tokenizer_config.json`: what chat templates need to know of a model.

internal import JSON

/// The part of a `tokenizer_config.json` that a server uses.
package struct TokenizerConfig: Sendable, Equatable {
  /// A template with its name, in files that have several (`default`, `tool_use`, …).
  package struct NamedTemplate: Sendable, Equatable {
    /// What the template is for.
    package let name: String
    /// Its Jinja text.
    package let template: String
  }

  /// Texts of special tokens by their key in the file: `bos_token`, `eos_token`, `pad_token`, `unk_token`, and what
  /// `extra_special_tokens` names.
  package var specialTokens: [String: String] = [:]

  /// Texts of further special tokens (`additional_special_tokens`).
  package var additionalSpecialTokens: [String] = []

  /// Chat templates; a file with a single one has it under the name `default`.
  package var chatTemplates: [NamedTemplate] = []

  /// Whether the model's own class puts the begin-of-text token before a text; nil when the file does not say.
  package var addsBeginToken: Bool?

  /// Whether the model's own class puts the end-of-text token behind a text; nil when the file does not say.
  package var addsEndToken: Bool?

  /// The longest input in tokens; nil when the file does not say or means "no limit".
  package var modelMaxLength: Int?

  /// The name of the Python class that the file was made for.
  package var tokenizerClass: String?

  package init() {}

  /// The begin-of-text token's text.
  package var beginToken: String? { specialTokens["bos_token"] }

  /// The end-of-text token's text.
  package var endToken: String? { specialTokens["eos_token"] }

  /// The template with this name; nil when there is none.
  package func chatTemplate(named name: String = "default") -> String? {
    chatTemplates.first { $0.name == name }?.template
  }

  /// Reads a `tokenizer_config.json`. Unknown keys are left alone.
  package init(json bytes: UnsafeRawBufferPointer) throws(TokenizerError) {
    guard bytes.count <= TokenizerLimits.configBytesMax else {
      throw .tooLarge(part: "tokenizer_config.json", limit: TokenizerLimits.configBytesMax)
    }
    let value: JSONValue
    do throws(JSONError) {
      value = try JSONValue.parse(bytes, valuesMax: 1 << 19)
    } catch {
      throw .invalidJSON(error)
    }
    guard let members = value.members else { throw .invalidFile(part: "tokenizer_config.json") }
    for member in members where member.key.hasSuffix("_token") {
      if let text = TokenizerConfig.tokenText(member.value) { specialTokens[member.key] = text }
    }
    for member in value["extra_special_tokens"]?.members ?? [] {
      if let text = TokenizerConfig.tokenText(member.value) { specialTokens[member.key] = text }
    }
    let further = value["additional_special_tokens"]?.array ?? value["extra_special_tokens"]?.array ?? []
    additionalSpecialTokens = further.compactMap(TokenizerConfig.tokenText)
    if let template = value["chat_template"]?.string {
      chatTemplates = [NamedTemplate(name: "default", template: template)]
    } else {
      for entry in value["chat_template"]?.array ?? [] {
        guard let name = entry["name"]?.string, let template = entry["template"]?.string else {
          throw .invalidFile(part: "chat_template")
        }
        chatTemplates.append(NamedTemplate(name: name, template: template))
      }
    }
    addsBeginToken = value["add_bos_token"]?.bool
    addsEndToken = value["add_eos_token"]?.bool
    // Files without a limit have 10^30 here.
    modelMaxLength = value["model_max_length"]?.integer
    tokenizerClass = value["tokenizer_class"]?.string
  }

  /// A token is its text, or an object with flags.
  private static func tokenText(_ value: JSONValue) -> String? {
    value.string ?? value["content"]?.string
  }
}
