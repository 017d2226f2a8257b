// `nvext`: what a request asks of the router and of its answer beyond OpenAI's API (Dynamo 1.6.1, reference/dynamo.md
// section 3.5).

internal import Base
internal import JSON

/// ``RequestHints`` of one request, behind one reference, since few requests have any.
package final class RequestExtensions: Sendable {
  package let hints: RequestHints

  init(_ hints: RequestHints) { self.hints = hints }
}

/// The members of `nvext` that have an effect here. The others that Dynamo knows are the engine's business.
package struct RequestHints: Sendable, Equatable {
  /// What the answer's own `nvext` is to hold (`extra_fields`).
  package struct Fields: OptionSet, Sendable {
    package let rawValue: UInt8
    package static let workerID = Fields(rawValue: 1)
    package static let timing = Fields(rawValue: 2)

    package init(rawValue: UInt8) { self.rawValue = rawValue }
  }

  /// What a stream is to tell before its first chunk (`annotations`).
  package struct Annotations: OptionSet, Sendable {
    package let rawValue: UInt8
    package static let requestID = Annotations(rawValue: 1)
    package static let workerInstanceID = Annotations(rawValue: 2)

    package init(rawValue: UInt8) { self.rawValue = rawValue }
  }

  /// The only worker that may serve the request (`backend_instance_id` or `decode_worker_id`).
  package internal(set) var worker: UInt64?
  /// `agent_hints.priority`.
  package internal(set) var priority: Int?
  /// `agent_hints.strict_priority`.
  package internal(set) var strictPriority: Int?
  /// `agent_hints.osl`: tokens that the answer is expected to have.
  package internal(set) var expectedTokens: Int?
  /// `router_config_override`; nil leaves the model's value.
  package internal(set) var overlapCredit: Double?
  package internal(set) var prefillScale: Double?
  package internal(set) var temperature: Double?
  package internal(set) var assumesReuse: Bool?
  package internal(set) var fields: Fields = []
  package internal(set) var annotations: Annotations = []
  /// `cache_salt` is there. It has no effect here, but an engine behind might give it one.
  package internal(set) var namesSalt = false

  package init() {}

  /// Most elements of `annotations` and `extra_fields`.
  static let listMax = 32

  /// Reads the value of `nvext` at `range` of a body that is valid JSON. Throws a 400 that names the member at fault:
  /// one that Dynamo does not know, that comes twice, or whose value is of another kind.
  static func read(_ body: UnsafeRawBufferPointer, _ range: Range<Int>) throws(APIError) -> RequestHints {
    var reader = HintReader(body.slice(range))
    do throws(JSONError) {
      try reader.readRoot()
    } catch {
      throw .invalidJSON(error)
    }
    if let fault = reader.fault { throw fault }
    return reader.hints
  }
}

/// The pass itself; the first fault is kept.
private struct HintReader {
  let bytes: UnsafeRawBufferPointer
  var scanner: JSONScanner
  var hints = RequestHints()
  var fault: APIError?
  private var decodeWorker: UInt64?

  init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
    scanner = JSONScanner(bytes)
  }

  private mutating func note(_ error: APIError) { if fault == nil { fault = error } }

  mutating func readRoot() throws(JSONError) {
    try readObject("nvext") { (reader, name, param) throws(JSONError) in
      try reader.readMember(name, param)
    }
    if let decodeWorker {
      if let worker = hints.worker, worker != decodeWorker {
        note(.invalidValue("nvext.decode_worker_id", reason: "it differs from 'nvext.backend_instance_id'"))
      }
      hints.worker = decodeWorker
    }
  }

  /// Calls `read` for each member, the scanner before its value; null counts as absent.
  private mutating func readObject(
    _ param: String, _ read: (inout HintReader, String, String) throws(JSONError) -> Void
  ) throws(JSONError) {
    guard try scanner.objectOrSkip() else { return note(.invalidType(param, expected: "an object")) }
    var seen: Set<String> = []
    while let key = try scanner.nextKey() {
      // No known name is longer, and an error echoes only so much.
      let name = String(key.decoded(in: bytes).prefix(64))
      let member = "\(param).\(name)"
      if seen.count < 64, !seen.insert(name).inserted { note(.duplicateKey(member)) }
      if case .null = try scanner.kind() {
        try scanner.literal()
      } else {
        try read(&self, name, member)
      }
    }
  }

  private mutating func readMember(_ name: String, _ param: String) throws(JSONError) {
    switch name {
    case "backend_instance_id": hints.worker = try readWorker(param)
    case "decode_worker_id": decodeWorker = try readWorker(param)
    case "prefill_worker_id": _ = try readWorker(param)
    case "dp_rank", "prefill_dp_rank", "max_thinking_tokens", "top_k":
      _ = try readInteger(param, Int(Int32.min)...Int(UInt32.max))
    case "repetition_penalty": _ = try readNumber(param)
    case "greed_sampling", "use_raw_prompt", "ignore_eos": _ = try readFlag(param)
    case "cache_salt":
      guard let salt = try scanner.stringOrSkip() else {
        return note(.invalidType(param, expected: "a string"))
      }
      hints.namesSalt = true
      if salt.range.count > InferenceRequest.saltBytesMax {
        note(.invalidValue(param, reason: "it is longer than \(InferenceRequest.saltBytesMax) bytes"))
      }
    case "token_data":
      if case .array = try scanner.kind() {
      } else {
        note(.invalidType(param, expected: "an array of tokens"))
      }
      try scanner.skipValue()
    case "annotations": try readList(param) { reader, word in reader.annotate(word, param) }
    case "extra_fields":
      try readList(param) { reader, word in
        if word == "worker_id" { reader.hints.fields.insert(.workerID) }
        if word == "timing" { reader.hints.fields.insert(.timing) }
      }
    case "agent_hints":
      try readObject(param) { (reader, name, param) throws(JSONError) in
        try reader.readAgentHint(name, param)
      }
    case "router_config_override":
      try readObject(param) { (reader, name, param) throws(JSONError) in
        try reader.readOverride(name, param)
      }
    case "metadata_upload",
      _ where name.hasPrefix("guided_"):
      try scanner.skipValue()
    default:
      note(.unknownField(param))
      try scanner.skipValue()
    }
  }

  private mutating func annotate(_ word: String, _ param: String) {
    switch word {
    case "request_id": hints.annotations.insert(.requestID)
    case "worker_instance_id": hints.annotations.insert(.workerInstanceID)
    case _ where word.hasPrefix("query_instance_id"):
      note(.invalidValue(param, reason: "for a dry run, post the request to /v1/router/explain"))
    default: break
    }
  }

  private mutating func readAgentHint(_ name: String, _ param: String) throws(JSONError) {
    switch name {
    case "priority": hints.priority = try readInteger(param, Int(Int32.min)...Int(Int32.max))
    case "strict_priority": hints.strictPriority = try readInteger(param, 0...Int(UInt32.max))
    case "osl": hints.expectedTokens = try readInteger(param, 0...Int(UInt32.max))
    case "speculative_prefill": _ = try readFlag(param)
    default:
      note(.unknownField(param))
      try scanner.skipValue()
    }
  }

  private mutating func readOverride(_ name: String, _ param: String) throws(JSONError) {
    switch name {
    case "overlap_score_credit": hints.overlapCredit = try readNumber(param)
    case "overlap_score_weight": hints.prefillScale = try readNumber(param)
    case "router_temperature": hints.temperature = try readNumber(param)
    case "assume_kv_reuse": hints.assumesReuse = try readFlag(param)
    default:
      note(.unknownField(param))
      try scanner.skipValue()
    }
  }

  // MARK: Values

  private mutating func readWorker(_ param: String) throws(JSONError) -> UInt64? {
    guard case .number = try scanner.kind() else {
      try scanner.skipValue()
      note(.invalidType(param, expected: "a worker's id"))
      return nil
    }
    // Ids reach beyond what a signed number holds.
    let range = try scanner.number().range
    let id = UInt64(String(decoding: bytes.slice(range), as: UTF8.self))
    if id == nil { note(.invalidValue(param, reason: "it is no worker's id")) }
    return id
  }

  private mutating func readInteger(_ param: String, _ bounds: ClosedRange<Int>) throws(JSONError) -> Int? {
    guard case .number = try scanner.kind() else {
      try scanner.skipValue()
      note(.invalidType(param, expected: "an integer"))
      return nil
    }
    let number = try scanner.number()
    guard number.isInteger else {
      note(.invalidType(param, expected: "an integer"))
      return nil
    }
    guard let value = number.integer, bounds.contains(value) else {
      let reason = "it must be from \(bounds.lowerBound) to \(bounds.upperBound)"
      note(.invalidValue(param, reason: reason))
      return nil
    }
    return value
  }

  private mutating func readNumber(_ param: String) throws(JSONError) -> Double? {
    guard case .number = try scanner.kind() else {
      try scanner.skipValue()
      note(.invalidType(param, expected: "a number"))
      return nil
    }
    let range = try scanner.number().range
    let value = try JSONValue.parse(bytes.slice(range)).double ?? -1
    guard value >= 0, value.isFinite else {
      note(.invalidValue(param, reason: "it must be at least 0, and finite"))
      return nil
    }
    return value
  }

  private mutating func readFlag(_ param: String) throws(JSONError) -> Bool? {
    let kind = try scanner.kind()
    try scanner.skipValue()
    switch kind {
    case .true: return true
    case .false: return false
    default:
      note(.invalidType(param, expected: "a boolean"))
      return nil
    }
  }

  private mutating func readList(
    _ param: String, _ take: (inout HintReader, String) -> Void
  ) throws(JSONError) {
    guard try scanner.arrayOrSkip() else { return note(.invalidType(param, expected: "an array of strings")) }
    var count = 0
    while try scanner.nextElement() {
      count += 1
      guard let word = try scanner.stringOrSkip() else {
        note(.invalidType("\(param)[\(min(count, Self.shownMax) - 1)]", expected: "a string"))
        continue
      }
      if count <= RequestHints.listMax { take(&self, word.decoded(in: bytes)) }
    }
    if count > RequestHints.listMax {
      note(.invalidValue(param, reason: "it must hold at most \(RequestHints.listMax) strings"))
    }
  }

  private static let shownMax = 1_000
}
