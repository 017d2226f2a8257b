// What the simulated engine answers at once: embeddings, and scores of texts against a query.

internal import Base
internal import Engine
internal import JSON
internal import OpenAI

/// Makes one such answer. Texts are counted as four bytes a token; none of this takes the engine's time.
struct SimulatedAnswers: ~Copyable {
  /// Dimensions of an embedding that asks for none.
  static let dimensions = 64
  static let dimensionsMax = 4_096
  /// Texts of one request.
  static let textsMax = 2_048
  /// Numbers of one answer.
  static let valuesMax = 1 << 19

  let id: String
  let created: Int
  let model: String
  private(set) var promptTokens = 0
  private(set) var answer = ByteBuffer()

  init(id: String, created: Int, model: String) {
    self.id = id
    self.created = created
    self.model = model
  }

  // MARK: Embeddings

  /// A vector for each prompt.
  mutating func embed(_ wanted: SimulationRequest) throws(APIError) {
    let dimensions = wanted.dimensions ?? Self.dimensions
    guard (1...Self.dimensionsMax).contains(dimensions) else {
      throw .invalidValue("dimensions", reason: "it must be from 1 to \(Self.dimensionsMax)")
    }
    guard wanted.prompts.count <= min(Self.textsMax, Self.valuesMax / dimensions) else {
      throw .invalidValue(
        "input",
        reason: "at most \(min(Self.textsMax, Self.valuesMax / dimensions)) texts can be embedded at once")
    }
    open("embd", "list")
    answer.append("\"data\":[" as StaticString)
    for (index, prompt) in wanted.prompts.enumerated() {
      if index > 0 { answer.append(UInt8(ascii: ",")) }
      answer.append("{\"object\":\"embedding\",\"index\":" as StaticString)
      answer.append(decimal: index)
      answer.append(",\"embedding\":" as StaticString)
      append(embedding(of: Self.bytes(of: prompt), dimensions), asBase64: wanted.wantsBase64)
      answer.append(UInt8(ascii: "}"))
    }
    answer.append("]," as StaticString)
    close()
  }

  private static func bytes(of prompt: SimulationRequest.Prompt) -> [UInt8] {
    switch prompt {
    case .text(let text): text
    case .tokens(let tokens):
      tokens.flatMap { token in withUnsafeBytes(of: token.littleEndian) { Array($0) } }
    }
  }

  private mutating func append(_ embedding: SimulatedEmbedding, asBase64: Bool) {
    guard asBase64 else {
      answer.append(UInt8(ascii: "["))
      for (index, value) in embedding.values.enumerated() {
        if index > 0 { answer.append(UInt8(ascii: ",")) }
        answer.append(jsonNumber: Double(value))
      }
      answer.append(UInt8(ascii: "]"))
      return
    }
    var bytes = ByteBuffer(capacity: embedding.values.count * 4)
    for value in embedding.values {
      withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append($0) }
    }
    answer.append(UInt8(ascii: "\""))
    answer.append(base64: bytes.readable)
    answer.append(UInt8(ascii: "\""))
  }

  private mutating func embedding(of text: [UInt8], _ dimensions: Int) -> SimulatedEmbedding {
    promptTokens += (text.count + 3) / 4
    return text.withUnsafeBytes { SimulatedEmbedding($0, dimensions: dimensions) }
  }

  // MARK: Scores

  /// Documents, the one most like the query first.
  mutating func rerank(_ body: UnsafeRawBufferPointer) throws(APIError) {
    let json = try Self.read(body)
    let query = try Self.texts(json, "query", allowsSeveral: false)
    let documents = try Self.texts(json, "documents")
    var top = documents.count
    if let wanted = json["top_n"], !wanted.isNull {
      guard let count = wanted.integer, count >= 0 else {
        throw .invalidValue("top_n", reason: "it must be a count")
      }
      // As in vLLM, 0 asks for all.
      if count > 0 { top = min(top, count) }
    }
    let scores = likenesses(of: documents, to: query)
    open("rerank", nil)
    answer.append("\"results\":[" as StaticString)
    let order = scores.indices.sorted { (scores[$0], $1) > (scores[$1], $0) }
    for (place, index) in order.prefix(top).enumerated() {
      answer.append(place == 0 ? "{\"index\":" as StaticString : ",{\"index\":")
      answer.append(decimal: index)
      answer.append(",\"document\":{\"text\":" as StaticString)
      answer.append(jsonString: documents[index])
      answer.append("},\"relevance_score\":" as StaticString)
      answer.append(jsonNumber: scores[index])
      answer.append(UInt8(ascii: "}"))
    }
    answer.append("]," as StaticString)
    close()
  }

  /// Texts of one list against the texts of another, or against the only one of the other.
  mutating func score(_ body: UnsafeRawBufferPointer) throws(APIError) {
    let json = try Self.read(body)
    let first = try Self.texts(json, "text_1")
    let second = try Self.texts(json, "text_2")
    guard first.count == second.count || first.count == 1 else {
      throw .invalidValue("text_1", reason: "it must hold one text, or as many as 'text_2'")
    }
    let scores = likenesses(of: second, to: first)
    open("score", "list")
    answer.append("\"data\":[" as StaticString)
    for (index, score) in scores.enumerated() {
      answer.append(index == 0 ? "{\"index\":" as StaticString : ",{\"index\":")
      answer.append(decimal: index)
      answer.append(",\"object\":\"score\",\"score\":" as StaticString)
      answer.append(jsonNumber: score)
      answer.append(UInt8(ascii: "}"))
    }
    answer.append("]," as StaticString)
    close()
  }

  private mutating func likenesses(of texts: [String], to others: [String]) -> [Double] {
    let others = others.map { embedding(of: Array($0.utf8), Self.dimensions) }
    return texts.enumerated().map { index, text in
      embedding(of: Array(text.utf8), Self.dimensions).likeness(to: others[others.count == 1 ? 0 : index])
    }
  }

  private static func read(_ body: UnsafeRawBufferPointer) throws(APIError) -> JSONValue {
    do throws(JSONError) {
      return try JSONValue.parse(body)
    } catch {
      throw .invalidJSON(error)
    }
  }

  /// A text or a list of texts, under `key`.
  private static func texts(
    _ json: JSONValue, _ key: String, allowsSeveral: Bool = true
  ) throws(APIError) -> [String] {
    guard let value = json[key], !value.isNull else { throw .missing(key) }
    if let text = value.string { return [text] }
    guard allowsSeveral, let list = value.array else {
      throw .invalidType(key, expected: allowsSeveral ? "a string or an array of strings" : "a string")
    }
    guard (1...textsMax).contains(list.count) else {
      throw .invalidValue(key, reason: "it must hold 1 to \(textsMax) texts")
    }
    var texts: [String] = []
    for element in list {
      guard let text = element.string ?? element["text"]?.string else {
        throw .invalidType(key, expected: "an array of strings")
      }
      texts.append(text)
    }
    return texts
  }

  // MARK: Around it

  private mutating func open(_ kind: StaticString, _ object: StaticString?) {
    answer.append("{\"id\":\"" as StaticString)
    answer.append(kind)
    answer.append(UInt8(ascii: "-"))
    answer.append(jsonContents: id)
    answer.append("\"," as StaticString)
    if let object {
      answer.append("\"object\":\"" as StaticString)
      answer.append(object)
      answer.append("\",\"created\":" as StaticString)
      answer.append(decimal: created)
      answer.append(UInt8(ascii: ","))
    }
    answer.append("\"model\":" as StaticString)
    answer.append(jsonString: model)
    answer.append(UInt8(ascii: ","))
  }

  private mutating func close() {
    answer.append("\"usage\":{\"prompt_tokens\":" as StaticString)
    answer.append(decimal: promptTokens)
    answer.append(",\"total_tokens\":" as StaticString)
    answer.append(decimal: promptTokens)
    answer.append("}}" as StaticString)
  }
}
