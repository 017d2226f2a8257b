// What a worker says about itself: its endpoint instance and its model card, in Dynamo's keys and JSON.

package import Base
package import JSON
package import OpenAI

/// How a worker is reached.
package enum DiscoveryTransport: Sendable, Equatable {
  /// An OpenAI-compatible server at this URL.
  case http(String)
  /// A transport that this product does not speak, by Dynamo's name of it (`tcp`, `nats_tcp`).
  case foreign(String)
}

/// Names one endpoint instance.
package struct DiscoveryIdentity: Sendable, Hashable {
  package let namespace: String
  package let component: String
  package let endpoint: String
  /// At most 2^53 in ids of ours, so that JSON readers keep every digit.
  package let instanceID: UInt64

  /// The largest id that this product gives out.
  package static let instanceIDMax: UInt64 = 1 << 53

  /// Puts a name together; check parts from outside with ``isName(_:)`` before they reach a path.
  package init(namespace: String, component: String, endpoint: String, instanceID: UInt64) {
    self.namespace = namespace
    self.component = component
    self.endpoint = endpoint
    self.instanceID = instanceID
  }

  /// Draws an id from 1 to 2^53.
  package static func instanceID(using random: inout Xoshiro256) -> UInt64 {
    random.next() & (instanceIDMax - 1) + 1
  }

  /// True for a part of a key that is also safe as a file name: 1-128 letters, digits, `_`, `-`, `.`, not starting with
  /// a dot.
  package static func isName(_ text: String) -> Bool {
    guard (1...128).contains(text.utf8.count), !text.hasPrefix(".") else { return false }
    return text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."):
        true
      default: false
      }
    }
  }

  /// The key of the endpoint instance: `v1/instances/{namespace}/{component}/{endpoint}/{instance id in hex}`.
  package var instanceKey: String { key("instances") }

  /// The key of the model card, alike under `v1/mdc`.
  package var cardKey: String { key("mdc") }

  private func key(_ kind: String) -> String {
    "v1/\(kind)/\(namespace)/\(component)/\(endpoint)/\(String(instanceID, radix: 16))"
  }
}

/// Why bytes are no record.
package enum DiscoveryRecordError: Error, Sendable, Equatable {
  case json(JSONError)
  /// The named field is missing or has the wrong type.
  case field(String)
}

/// An endpoint instance, as stored under ``DiscoveryIdentity/instanceKey``.
package struct DiscoveryRecord: Sendable, Equatable {
  package var identity: DiscoveryIdentity
  package var transport: DiscoveryTransport

  package init(_ identity: DiscoveryIdentity, transport: DiscoveryTransport) {
    self.identity = identity
    self.transport = transport
  }

  /// Appends the record's JSON.
  package func write(to out: inout ByteBuffer) {
    out.append("{\"component\":" as StaticString)
    out.append(jsonString: identity.component)
    out.append(",\"endpoint\":" as StaticString)
    out.append(jsonString: identity.endpoint)
    out.append(",\"namespace\":" as StaticString)
    out.append(jsonString: identity.namespace)
    out.append(",\"instance_id\":" as StaticString)
    out.append(decimal: identity.instanceID)
    out.append(",\"transport\":{" as StaticString)
    switch transport {
    case .http(let url):
      out.append("\"http\":" as StaticString)
      out.append(jsonString: url)
    case .foreign(let kind):
      out.append(jsonString: kind)
      out.append(":null" as StaticString)
    }
    out.append("}}\n" as StaticString)
  }

  /// Reads a record; members that it does not know are ignored.
  package static func parse(_ bytes: UnsafeRawBufferPointer) throws(DiscoveryRecordError) -> DiscoveryRecord {
    let json = try DiscoveryJSON.object(bytes)
    let identity = DiscoveryIdentity(
      namespace: try DiscoveryJSON.name(json, "namespace"),
      component: try DiscoveryJSON.name(json, "component"),
      endpoint: try DiscoveryJSON.name(json, "endpoint"),
      instanceID: try DiscoveryJSON.id(json, "instance_id"))
    guard let members = json["transport"]?.members, let first = members.first else {
      throw .field("transport")
    }
    if let url = json["transport"]?["http"]?.string {
      return DiscoveryRecord(identity, transport: .http(url))
    }
    return DiscoveryRecord(identity, transport: .foreign(first.key))
  }

  /// Dynamo's word for the transport of a record that may be of another making; nil when it does not say. Its ids have
  /// more digits than ``parse(_:)`` takes.
  static func transportName(_ bytes: UnsafeRawBufferPointer) -> String? {
    guard let json = try? DiscoveryJSON.object(bytes) else { return nil }
    return json["transport"]?.members?.first?.key ?? json["transport"]?.string
  }
}

/// Which part of a request a worker does.
package enum WorkerRole: String, Sendable, CaseIterable {
  case aggregated = "Aggregated"
  case prefill = "Prefill"
  case decode = "Decode"

  /// The word that `/health` shows.
  package var label: String {
    switch self {
    case .aggregated: "aggregated"
    case .prefill: "prefill"
    case .decode: "decode"
    }
  }
}

/// What a worker serves, as stored under ``DiscoveryIdentity/cardKey``.
package struct ModelCard: Sendable, Equatable {
  /// The model's name in requests.
  package var displayName: String
  package var role = WorkerRole.aggregated
  /// The routes that it serves; nil when that is not told.
  package var endpoints: EndpointSet?
  /// Prompt and output tokens of one request; nil when unknown.
  package var contextLength: Int?
  /// Tokens in a cache block; nil when unknown.
  package var blockSize: Int?
  package var totalBlocks: Int?
  package var sequencesMax: Int?
  package var batchedTokensMax: Int?
  /// Times that a stream of it may go on at another worker.
  package var migrationLimit = 0

  /// As the setting has it.
  static let migrationLimitMax = 64

  package init(displayName: String) { self.displayName = displayName }

  /// Appends the card's JSON.
  package func write(to out: inout ByteBuffer) {
    out.append("{\"display_name\":" as StaticString)
    out.append(jsonString: displayName)
    out.append(",\"slug\":" as StaticString)
    out.append(jsonString: Self.slug(displayName))
    if let contextLength { Self.append(",\"context_length\":", contextLength, to: &out) }
    if let blockSize { Self.append(",\"kv_cache_block_size\":", blockSize, to: &out) }
    if migrationLimit > 0 { Self.append(",\"migration_limit\":", migrationLimit, to: &out) }
    if let endpoints {
      out.append(",\"model_type\":" as StaticString)
      out.append(jsonString: Self.kinds(of: endpoints))
      out.append(",\"endpoints\":" as StaticString)
      out.append(endpoints)
    }
    out.append(",\"model_input\":\"Text\",\"worker_type\":" as StaticString)
    out.append(jsonString: role.rawValue)
    out.append(",\"runtime_config\":{\"total_kv_blocks\":" as StaticString)
    if let totalBlocks { out.append(decimal: totalBlocks) } else { out.append("null" as StaticString) }
    if let sequencesMax { Self.append(",\"max_num_seqs\":", sequencesMax, to: &out) }
    if let batchedTokensMax { Self.append(",\"max_num_batched_tokens\":", batchedTokensMax, to: &out) }
    out.append("}}\n" as StaticString)
  }

  /// Reads a card, bare or inside Dynamo's `card_json`; members that it does not know are ignored.
  package static func parse(_ bytes: UnsafeRawBufferPointer) throws(DiscoveryRecordError) -> ModelCard {
    let whole = try DiscoveryJSON.object(bytes)
    let json = whole["card_json"] ?? whole
    guard let name = json["display_name"]?.string, !name.isEmpty, name.utf8.count <= 512 else {
      throw .field("display_name")
    }
    var card = ModelCard(displayName: name)
    if let role = json["worker_type"]?.string.flatMap(WorkerRole.init(rawValue:)) { card.role = role }
    // Dynamo writes the kinds as names joined by bars, or as bits that say nothing to others.
    if let kinds = json["model_type"]?.string { card.endpoints = endpoints(ofKinds: kinds) }
    if let labels = json["endpoints"]?.array {
      card.endpoints = EndpointSet(labels: labels.compactMap(\.string))
    }
    card.contextLength = positive(json["context_length"])
    card.blockSize = positive(json["kv_cache_block_size"])
    card.migrationLimit = min(positive(json["migration_limit"]) ?? 0, migrationLimitMax)
    let runtime = json["runtime_config"]
    card.totalBlocks = positive(runtime?["total_kv_blocks"])
    card.sequencesMax = positive(runtime?["max_num_seqs"])
    card.batchedTokensMax = positive(runtime?["max_num_batched_tokens"])
    return card
  }

  /// Dynamo's words for what a model does.
  private static func kinds(of endpoints: EndpointSet) -> String {
    let words: [(Endpoint, String)] = [
      (.chatCompletions, "Chat"), (.completions, "Completions"), (.embeddings, "Embedding"),
      (.rerank, "Rerank"),
    ]
    return words.filter { endpoints.contains($0.0) }.map(\.1).joined(separator: " | ")
  }

  /// The routes that a list of Dynamo's words stands for. An engine that chats may make responses too.
  private static func endpoints(ofKinds kinds: String) -> EndpointSet {
    var endpoints: EndpointSet = []
    for kind in kinds.lowercased().split(separator: "|") {
      if kind.contains("chat") { endpoints.formUnion(EndpointSet([.chatCompletions, .responses])) }
      if kind.contains("completions") { endpoints.formUnion(EndpointSet(.completions)) }
      if kind.contains("embedding") { endpoints.formUnion(EndpointSet(.embeddings)) }
      if kind.contains("rerank") { endpoints.formUnion(EndpointSet([.rerank, .score])) }
    }
    return endpoints
  }

  /// The name in lower case with everything but letters, digits, `-` and `_` replaced by `-`.
  package static func slug(_ name: String) -> String {
    String(
      decoding: name.utf8.map { byte -> UInt8 in
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte | 0x20
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
          UInt8(ascii: "_"):
          byte
        default: UInt8(ascii: "-")
        }
      }, as: UTF8.self)
  }

  private static func append(_ key: StaticString, _ value: Int, to out: inout ByteBuffer) {
    out.append(key)
    out.append(decimal: value)
  }

  private static func positive(_ value: JSONValue?) -> Int? {
    guard let number = value?.integer, number > 0 else { return nil }
    return number
  }
}

/// Field access shared by the records.
private enum DiscoveryJSON {
  static func object(_ bytes: UnsafeRawBufferPointer) throws(DiscoveryRecordError) -> JSONValue {
    let value: JSONValue
    do throws(JSONError) {
      value = try JSONValue.parse(bytes, valuesMax: 4_096)
    } catch {
      throw .json(error)
    }
    guard value.members != nil else { throw .field("(object)") }
    return value
  }

  static func name(_ json: JSONValue, _ key: String) throws(DiscoveryRecordError) -> String {
    guard let text = json[key]?.string, DiscoveryIdentity.isName(text) else { throw .field(key) }
    return text
  }

  /// Dynamo's ids may exceed Int64 and then arrive as doubles that lost digits: such a record is refused.
  static func id(_ json: JSONValue, _ key: String) throws(DiscoveryRecordError) -> UInt64 {
    guard let number = json[key]?.integer, number > 0 else { throw .field(key) }
    return UInt64(number)
  }
}
