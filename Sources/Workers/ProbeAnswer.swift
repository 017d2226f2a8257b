// What a worker's answers to `GET /v1/models` and `GET /metrics` tell.

internal import Base
internal import JSON
internal import OpenAI

/// What a probe learned of a worker.
struct ProbeAnswer: Sendable, Equatable {
  /// Names of the models it lists; never empty.
  var models: [String] = []
  /// Tokens in a cache block; nil when it does not say.
  var blockSize: Int?
  /// Blocks of its cache; nil when it does not say.
  var totalBlocks: Int?
  /// It showed itself to be `dynamo-worker`.
  var isDynamoWorker = false
  var engine = EngineKind.unknown
  /// Which part of a request it does; nil when it does not say.
  var role: WorkerRole?
  /// Those of ``models`` that are LoRA adapters of another.
  var adapters: [String] = []
  /// The routes that it serves; nil when it does not say.
  var endpoints: EndpointSet?
  /// Where it publishes its cache's events; nil when it was not asked or did not answer.
  var eventSources: [CacheEventSource]?

  /// Names of one worker that are kept; a server of many adapters lists no more.
  static let modelsMax = 256
  /// Bytes of a name; longer ones are skipped.
  static let nameBytesMax = 512

  /// Reads an answer of `/v1/models`. Throws what is wrong with it, in words for the log.
  static func parse(models body: UnsafeRawBufferPointer) throws(ProbeFailure) -> ProbeAnswer {
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue.parse(body)
    } catch {
      throw .answer("its list of models is not JSON")
    }
    guard let entries = json["data"]?.array else { throw .answer("its answer is no list of models") }
    var answer = ProbeAnswer()
    for entry in entries where answer.models.count < modelsMax {
      guard let name = entry["id"]?.string, !name.isEmpty, name.utf8.count <= nameBytesMax,
        !answer.models.contains(name)
      else { continue }
      answer.models.append(name)
      if entry["parent"]?.string != nil { answer.adapters.append(name) }
      answer.blockSize = answer.blockSize ?? positive(entry["kv_cache_block_size"])
      answer.totalBlocks = answer.totalBlocks ?? positive(entry["total_kv_blocks"])
      if answer.engine == .unknown {
        answer.engine = EngineKind(ownedBy: entry["owned_by"]?.string, engine: entry["engine"]?.string)
      }
      if let labels = entry["endpoints"]?.array {
        answer.endpoints = (answer.endpoints ?? []).union(EndpointSet(labels: labels.compactMap(\.string)))
      }
      answer.role = answer.role ?? entry["worker_type"]?.string.flatMap(WorkerRole.init(rawValue:))
      if entry["owned_by"]?.string == "dynamo-worker" { answer.isDynamoWorker = true }
    }
    guard !answer.models.isEmpty else { throw .answer("it lists no model") }
    return answer
  }

  private static func positive(_ value: JSONValue?) -> Int? {
    guard let number = value?.integer, number > 0 else { return nil }
    return number
  }

  /// Adds what the Prometheus text of `/metrics` says: vLLM tells of its cache in the labels of one family, and
  /// `dynamo-worker` has families that no bare engine has.
  mutating func read(metrics text: UnsafeRawBufferPointer) {
    var start = 0
    while start < text.count {
      var end = start
      while end < text.count, text[end] != UInt8(ascii: "\n") { end += 1 }
      read(line: text.slice(start..<end))
      start = end + 1
    }
  }

  private mutating func read(line: UnsafeRawBufferPointer) {
    if line.starts(with: "dynamo_component_") {
      isDynamoWorker = true
    } else if line.starts(with: "vllm:cache_config_info{") {
      blockSize = blockSize ?? Self.label("block_size", in: line)
      totalBlocks = totalBlocks ?? Self.label("num_gpu_blocks", in: line)
    }
  }

  /// The value of a label as a positive number; vLLM writes `None` where it does not know.
  private static func label(_ name: StaticString, in line: UnsafeRawBufferPointer) -> Int? {
    var index = 0
    while index < line.count, line[index] != UInt8(ascii: "{") { index += 1 }
    while index + 1 < line.count {
      // At `{` or `,`: a name, `="`, a value with escapes, `"`.
      index += 1
      let start = index
      while index < line.count, line[index] != UInt8(ascii: "=") { index += 1 }
      let matches = line.slice(start..<index).equals(name)
      index += 2
      let value = index
      while index < line.count, line[index] != UInt8(ascii: "\"") {
        index += line[index] == UInt8(ascii: "\\") ? 2 : 1
      }
      guard index < line.count else { return nil }
      if matches {
        guard let number = line.slice(value..<index).decimal, number > 0 else { return nil }
        return number
      }
      index += 1
      if index >= line.count || line[index] != UInt8(ascii: ",") { return nil }
    }
    return nil
  }
}

/// Why a probe failed.
enum ProbeFailure: Error, Sendable, Equatable {
  /// No connection came about.
  case refused(String)
  /// It took the connection and did not answer in time.
  case silent
  /// It answered, but not as a worker that can serve.
  case answer(String)

  /// In words for the log and `/health`.
  var reason: String {
    switch self {
    case .refused(let reason), .answer(let reason): reason
    case .silent: "no answer in time"
    }
  }

  /// The failure that an answer with `status` is; engines that load say so in OpenAI's error object.
  static func status(_ status: Int, body: UnsafeRawBufferPointer) -> ProbeFailure {
    var text = "status \(status)"
    if status == 401 || status == 403 { text += " (see --worker-api-key-file)" }
    if let json = try? JSONValue.parse(body, valuesMax: 64), let message = json["error"]?["message"]?.string {
      text += " '\(message.prefix(100))'"
    }
    return .answer(text)
  }
}

extension UnsafeRawBufferPointer {
  fileprivate func starts(with text: StaticString) -> Bool {
    count >= text.utf8CodeUnitCount && slice(0..<text.utf8CodeUnitCount).equals(text)
  }
}
