// `GET /kv_event_sources` in vLLM's form: what a worker answers, and what is read of an engine's answer.

package import Base
internal import JSON

/// One rank's publisher, in vLLM's terms (`KVEventsConfig`); the ports have the rank in them already.
package struct CacheEventSource: Sendable, Equatable {
  package var rank: Int
  package var endpoint: String
  /// Nil where missed events cannot be asked for.
  package var replayEndpoint: String?
  package var topic = ""
  /// `bytes` when the tokens are words of the prompt's canonical bytes, as those of the simulated engine (our own
  /// member of the answer); nil for a model's tokens.
  package var tokenSource: String?

  package init(
    rank: Int, endpoint: String, replayEndpoint: String? = nil, topic: String = "", tokenSource: String? = nil
  ) {
    self.rank = rank
    self.endpoint = endpoint
    self.replayEndpoint = replayEndpoint
    self.topic = topic
    self.tokenSource = tokenSource
  }

  /// True for tokens that are words of the prompt's bytes.
  var isOfBytes: Bool { tokenSource == "bytes" }

  /// Ranks of one engine that are followed.
  package static let ranksMax = 64
  private static let textBytesMax = 512

  /// Reads an answer of `/kv_event_sources`. Entries that are off, or not as they should be, are left out.
  package static func parse(_ body: UnsafeRawBufferPointer) -> [CacheEventSource] {
    guard let json = try? JSONValue.parse(body, valuesMax: 4_096), let members = json.members else {
      return []
    }
    var sources: [Int: CacheEventSource] = [:]
    for member in members where sources.count < ranksMax {
      let entry = member.value
      guard let rank = Int(member.key), (0..<65_536).contains(rank),
        entry["enable_kv_cache_events"]?.bool != false, entry["publisher"]?.string ?? "zmq" == "zmq",
        let endpoint = text(entry["endpoint"])
      else { continue }
      sources[rank] = CacheEventSource(
        rank: rank, endpoint: endpoint, replayEndpoint: text(entry["replay_endpoint"]),
        topic: text(entry["topic"]) ?? "", tokenSource: text(entry["token_source"]))
    }
    return sources.values.sorted { $0.rank < $1.rank }
  }

  private static func text(_ value: JSONValue?) -> String? {
    guard let text = value?.string, !text.isEmpty, text.utf8.count <= textBytesMax else { return nil }
    return text
  }

  /// Appends vLLM's answer for `sources`; `{}` for none.
  package static func write(_ sources: [CacheEventSource], into out: inout ByteBuffer) {
    out.append("{" as StaticString)
    for (index, source) in sources.enumerated() {
      if index > 0 { out.append("," as StaticString) }
      out.append(jsonString: "\(source.rank)")
      out.append(":{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":" as StaticString)
      out.append(jsonString: source.endpoint)
      out.append(",\"replay_endpoint\":" as StaticString)
      if let replay = source.replayEndpoint {
        out.append(jsonString: replay)
      } else {
        out.append("null" as StaticString)
      }
      out.append(
        ",\"buffer_steps\":10000,\"hwm\":100000,\"max_queue_size\":100000,\"topic\":" as StaticString)
      out.append(jsonString: source.topic)
      if let tokenSource = source.tokenSource {
        out.append(",\"token_source\":" as StaticString)
        out.append(jsonString: tokenSource)
      }
      out.append("}" as StaticString)
    }
    out.append("}" as StaticString)
  }
}
