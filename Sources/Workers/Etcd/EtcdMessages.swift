// What is said to etcd's JSON gateway and what it answers (etcd v3, rpc.proto by grpc-gateway's mapping): bytes are base64,
// 64-bit numbers are strings, members with default values are left out.

internal import Base
internal import JSON

/// Request bodies.
enum EtcdRequest {
  /// Keys from `from` to before `end`, at most `limit` of them; at an earlier revision where one is named.
  static func range(from: String, end: String, limit: Int, revision: Int?) -> String {
    let at = revision.map { ",\"revision\":\"\($0)\"" } ?? ""
    return
      "{\"key\":\"\(base64(from))\",\"range_end\":\"\(base64(end))\",\"limit\":\"\(limit)\",\"sort_target\":\"KEY\",\"sort_order\":\"ASCEND\"\(at)}"
  }

  /// How many keys there are: a question that only a member in touch with the others answers.
  static func count(from: String, end: String) -> String {
    "{\"key\":\"\(base64(from))\",\"range_end\":\"\(base64(end))\",\"count_only\":true}"
  }

  static func watch(from: String, end: String, revision: Int) -> String {
    "{\"create_request\":{\"key\":\"\(base64(from))\",\"range_end\":\"\(base64(end))\",\"start_revision\":\"\(revision)\"}}"
  }

  static func grant(seconds: Int) -> String { "{\"TTL\":\"\(seconds)\"}" }

  static func lease(_ id: String) -> String { "{\"ID\":\"\(id)\"}" }

  /// Writes all of `pairs` under a lease, in one step.
  static func put(_ pairs: [(key: String, value: String)], lease: String) -> String {
    "{\"success\":[\(puts(pairs, lease))]}"
  }

  /// Writes all of `pairs` unless all of their keys are there; the answer's `succeeded` tells that they were.
  static func putUnlessThere(_ pairs: [(key: String, value: String)], lease: String) -> String {
    let compares = pairs.map {
      "{\"key\":\"\(base64($0.key))\",\"target\":\"CREATE\",\"result\":\"GREATER\",\"create_revision\":\"0\"}"
    }
    return "{\"compare\":[\(compares.joined(separator: ","))],\"failure\":[\(puts(pairs, lease))]}"
  }

  private static func puts(_ pairs: [(key: String, value: String)], _ lease: String) -> String {
    pairs.map {
      "{\"request_put\":{\"key\":\"\(base64($0.key))\",\"value\":\"\(base64($0.value))\",\"lease\":\"\(lease)\"}}"
    }.joined(separator: ",")
  }

  static func authenticate(_ name: String, _ password: String) -> String {
    var body = ByteBuffer(capacity: 128)
    body.append("{\"name\":" as StaticString)
    body.append(jsonString: name)
    body.append(",\"password\":" as StaticString)
    body.append(jsonString: password)
    body.append("}" as StaticString)
    return body.text
  }

  private static func base64(_ text: String) -> String { Base64.encode(text.utf8) }
}

/// Reading of answers.
enum EtcdAnswer {
  /// A key that was there, or one that a watch saw written.
  struct Pair: Equatable {
    let key: String
    let value: [UInt8]
  }

  enum Change: Equatable {
    case put(Pair)
    case deleted(String)
  }

  /// One message of a watch.
  struct WatchMessage: Equatable {
    var changes: [Change] = []
    /// The last revision among ``changes``; 0 without one.
    var revision = 0
    var isCanceled = false
    /// What it was to begin with is forgotten; all is to be read again.
    var isCompacted = false
    var reason: String?
  }

  static func parse(_ bytes: UnsafeRawBufferPointer) -> JSONValue? {
    try? JSONValue.parse(bytes, valuesMax: 1 << 18)
  }

  /// A number that is written as a string.
  static func number(_ value: JSONValue?) -> Int? { value?.string.flatMap { Int($0) } ?? value?.integer }

  static func revision(_ answer: JSONValue) -> Int? { number(answer["header"]?["revision"]) }

  static func pair(_ value: JSONValue) -> Pair? {
    guard let key = text(value["key"]) else { return nil }
    return Pair(key: key, value: value["value"]?.string.flatMap { Base64.decode($0) } ?? [])
  }

  private static func text(_ value: JSONValue?) -> String? {
    value?.string.flatMap { Base64.decode($0) }.map { String(decoding: $0, as: UTF8.self) }
  }

  /// Nil for what is no message of a watch.
  static func watchMessage(_ line: UnsafeRawBufferPointer) -> WatchMessage? {
    guard let json = parse(line) else { return nil }
    var message = WatchMessage()
    guard let result = json["result"] else {
      guard let error = json["error"] else { return nil }
      message.isCanceled = true
      message.reason = error["message"]?.string ?? error.string ?? "error"
      return message
    }
    message.isCanceled = result["canceled"]?.bool ?? false
    message.isCompacted = (number(result["compact_revision"]) ?? 0) > 0
    message.reason = result["cancel_reason"]?.string
    for event in result["events"]?.array ?? [] {
      guard let pair = event["kv"].flatMap(pair) else { continue }
      message.revision = max(message.revision, number(event["kv"]?["mod_revision"]) ?? 0)
      message.changes.append(event["type"]?.string == "DELETE" ? .deleted(pair.key) : .put(pair))
    }
    return message
  }
}
