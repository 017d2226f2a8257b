// Where an engine publishes the events of its cache, as `GET /kv_event_sources` tells.

internal import Base
internal import JSON

/// One rank's publisher, in the engine's own terms (vLLM's `KVEventsConfig`).
package struct CacheEventSource: Sendable, Equatable {
  package let rank: Int
  /// The port has the rank in it already.
  package let endpoint: String
  /// Nil where missed events cannot be asked for.
  package let replayEndpoint: String?
  package let topic: String
  /// The engine's tokens are words of the prompt's canonical bytes, as those of the simulated one without a tokenizer.
  package let isOfBytes: Bool

  /// Ranks of one worker that are listened to.
  static let ranksMax = 64
  private static let textBytesMax = 512

  /// Reads an answer of `/kv_event_sources`: an object with a member for each rank. Entries that are off, or that are
  /// not as they should be, are left out.
  static func parse(_ body: UnsafeRawBufferPointer) -> [CacheEventSource] {
    guard let json = try? JSONValue.parse(body, valuesMax: 4_096), let members = json.members else {
      return []
    }
    var sources: [CacheEventSource] = []
    for member in members where sources.count < ranksMax {
      let entry = member.value
      guard let rank = Int(member.key), rank >= 0, entry["enable_kv_cache_events"]?.bool != false,
        entry["publisher"]?.string ?? "zmq" == "zmq", let endpoint = text(entry["endpoint"])
      else { continue }
      sources.append(
        CacheEventSource(
          rank: rank, endpoint: endpoint, replayEndpoint: text(entry["replay_endpoint"]),
          topic: text(entry["topic"]) ?? "", isOfBytes: entry["token_source"]?.string == "bytes"))
    }
    return sources.sorted { $0.rank < $1.rank }
  }

  private static func text(_ value: JSONValue?) -> String? {
    guard let text = value?.string, !text.isEmpty, text.utf8.count <= textBytesMax else { return nil }
    return text
  }
}
