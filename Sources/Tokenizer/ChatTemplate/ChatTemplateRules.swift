// What each kind of engine makes of a chat before its template sees it.

/// How an engine turns a request into the values of its template. A router that predicts the engine's tokens must do
/// the same. Taken from the engines' own sources: vLLM 0.32 (`renderers/chat_utils.py`, `renderers/hf.py`), SGLang
/// 0.5.23 (`entrypoints/openai/serving_chat.py`, `parser/jinja_template_utils.py`), llama.cpp 11434 (`common/chat.cpp`)
/// and transformers 5.23 (`utils/chat_template_utils.py`).
package struct ChatTemplateRules: Sendable, Equatable {
  /// The kind of engine.
  package enum Engine: String, Sendable, CaseIterable {
    /// Nothing but what `apply_chat_template` does.
    case huggingFace = "huggingface"
    case vllm
    case sglang
    case llamaCpp = "llamacpp"
  }

  package let engine: Engine

  package init(_ engine: Engine) {
    self.engine = engine
  }
}

/// Whether a template takes `message.content` as text or as a list of parts.
package enum ChatContentFormat: String, Sendable {
  /// One string.
  case string
  /// A list of `{"type": "text", "text": …}` and of parts for media.
  case openai
}

/// What a compiled template can take, learnt from its tree and, for llama.cpp, from trial renderings.
struct ChatTemplateTraits: Sendable {
  /// vLLM's finding: the template loops over the content of a message.
  var vllmFormat = ChatContentFormat.string
  /// SGLang's finding: the like, or any word of media in the text.
  var sglangFormat = ChatContentFormat.string
  /// The template names the role `developer`.
  var namesDeveloper = false
  /// The template knows gpt-oss's channels; llama.cpp then keeps the role `developer`.
  var namesChannels = false
  // What llama.cpp finds by trial.
  var takesStrings = true
  var takesParts = false
  var takesSystemRole = true
  var takesObjectArguments = false

  init(_ program: JinjaProgram) {
    let source = program.source
    func names(_ word: StaticString) -> Bool { source.find(JinjaText(word)) != nil }
    let detector = ChatContentDetector(program)
    vllmFormat = detector.loopsOverContent() ? .openai : .string
    let namesMedia = names("image") || names("audio") || names("video") || names("vision")
    sglangFormat = namesMedia || detector.loopsOverContentByName() ? .openai : .string
    namesDeveloper = names("\"developer\"") || names("'developer'")
    namesChannels = names("<|channel|>")
    takesParts = vllmFormat == .openai
  }
}
