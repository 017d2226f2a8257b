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
    vllmFormat = detector.loopsOverContent(ofMessages: true) ? .openai : .string
    let namesMedia = names("image") || names("audio") || names("video") || names("vision")
    sglangFormat = namesMedia || detector.loopsOverContent(ofMessages: false) ? .openai : .string
    namesDeveloper = names("\"developer\"") || names("'developer'")
    namesChannels = names("<|channel|>")
    takesParts = vllmFormat == .openai
  }
}

/// Looks in a template's tree for a loop over the content of a message.
struct ChatContentDetector {
  private let program: JinjaProgram

  init(_ program: JinjaProgram) {
    self.program = program
  }

  /// True when a `for` runs over the content of a message: of the variable of any loop over `messages`, or, else, of
  /// one of the usual names.
  func loopsOverContent(ofMessages: Bool) -> Bool {
    let messages: [Int32]
    if ofMessages {
      var names: [Int32] = []
      for name in aliases(of: "messages") {
        for loop in program.loops where isAccess(loop.iterable, name, key: nil) {
          // vLLM gives up on a loop with several targets.
          guard program[loop.target].kind == .name else { return false }
          names.append(program[loop.target].a)
        }
      }
      messages = names
    } else {
      messages = ["message", "msg", "m"].compactMap { program.known(JinjaText($0)) }
    }
    return messages.contains { name in
      program.loops.contains { isAccess($0.iterable, name, key: "content") }
    }
  }

  /// The name and all names that are assigned it, or elements of it.
  private func aliases(of word: StaticString) -> [Int32] {
    guard let name = program.known(JinjaText(word)) else { return [] }
    var names = [name]
    var next = 0
    while next < names.count {
      for node in program.nodes where node.kind == .assign && isAccess(node.b, names[next], key: nil) {
        let target = program[node.a]
        if target.kind == .name, !names.contains(target.a) { names.append(target.a) }
      }
      next += 1
    }
    return names
  }

  /// True for the variable, or its attribute `key`, under any filters, tests and slices.
  private func isAccess(_ id: JinjaNodeID, _ name: Int32, key: StaticString?) -> Bool {
    guard id >= 0 else { return false }
    let node = program[id]
    switch node.kind {
    case .filter, .test: return isAccess(node.a, name, key: key)
    case .item where program[node.b].kind == .slice: return isAccess(node.a, name, key: key)
    case .item:
      guard let key, isVariable(node.a, name), program[node.b].kind == .constant,
        case .string(let text) = program.constants[Int(program[node.b].a)]
      else { return false }
      return text.equals(key)
    case .attribute:
      guard let key else { return false }
      return isVariable(node.a, name) && program.names[Int(node.b)].equals(key)
    default: return key == nil && isVariable(id, name)
    }
  }

  private func isVariable(_ id: JinjaNodeID, _ name: Int32) -> Bool {
    program[id].kind == .name && program[id].a == name
  }
}
