// Answers of a form that the caller asked for: their text in pieces, one for each token that the engine makes.

internal import OpenAI

/// A form's text on its way out. The engine's own words are passed over: what it lends is its time.
struct SimulatedForm {
  /// Bytes of a token, as in prompts.
  private static let tokenBytes = 4

  let call: CompletionAnswer.Call?
  /// The caller named the tool: as in vLLM, its answer then just stops.
  private let isNamed: Bool
  private let text: [UInt8]
  private var offset = 0

  init(_ form: WantedForm, id: String) {
    text = form.text
    switch form {
    case .call(let name, _, let isNamed):
      call = CompletionAnswer.Call(id: "chatcmpl-tool-\(id)", name: name)
      self.isNamed = isNamed
    case .json:
      call = nil
      isNamed = false
    }
  }

  /// Tokens of the whole text.
  static func tokenCount(of form: WantedForm) -> Int {
    var count = 0
    var copy = SimulatedForm(form, id: "")
    while !copy.isComplete {
      _ = copy.next()
      count += 1
    }
    return max(1, count)
  }

  var isComplete: Bool { offset >= text.count }

  /// The next piece; characters stay whole.
  mutating func next() -> ArraySlice<UInt8> {
    let start = offset
    offset = min(offset + Self.tokenBytes, text.count)
    while offset < text.count, text[offset] & 0xc0 == 0x80 { offset += 1 }
    return text[start..<offset]
  }

  /// How the answer ends, where the engine has made all the tokens it may.
  var finish: CompletionFinish {
    guard isComplete else { return .length }
    return call == nil || isNamed ? .stop : .toolCalls
  }
}
