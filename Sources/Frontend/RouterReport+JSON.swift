// `GET /v1/router/state`: what the routers know, as JSON.

internal import Base
internal import EventLoop
internal import JSON
internal import Routing
internal import Workers

/// How much of the routers is shown at once.
enum RouterViewLimits {
  /// Workers of all models, or candidates of one dry run; the rest is counted as `omitted`.
  static let workersMax = 1_024
  /// Models of one answer.
  static let modelsMax = 64
}

/// Writes the answer in the pool: a large fleet's would hold a loop.
final class RouterStateJob: AnswerJob {
  private let workers: WorkerSet
  private let system: any SystemCalls

  init(service: FrontendLoop) {
    workers = service.workers
    system = service.loop.system
  }

  override func run() { answer.append(workers.routerState(of: models, now: system.monotonicNanoseconds())) }
}

extension WorkerSet {
  /// The routers of all models, or of those `visible`, with their options, numbers and workers. Records without a model
  /// here are for those who may see all.
  func routerState(of visible: Set<String>? = nil, now: Nanoseconds) -> JSONValue {
    let models = visible.map { visible in self.models.filter { visible.contains($0.name) } } ?? self.models
    let shown = models.prefix(RouterViewLimits.modelsMax)
    let unused = visible == nil ? self.unused : UnusedRecords()
    var room = RouterViewLimits.workersMax
    return .members([
      ("generation", .integer(generation)),
      ("models", .array(shown.map { $0.routerState(now: now, &room) })),
      ("omitted", .integer(models.count - shown.count)),
      ("unused_records", .array(unused.shown.map(\.json))),
      ("unused_records_omitted", .integer(unused.count - unused.shown.count)),
    ])
  }
}

extension UnusedRecord {
  fileprivate var json: JSONValue { .members([("key", .string(key)), ("reason", .string(reason))]) }
}

extension ServedModel {
  /// Shows at most `room` workers, and takes them off it.
  fileprivate func routerState(now: Nanoseconds, _ room: inout Int) -> JSONValue {
    let report = routing.report(now: now)
    let shown = report.workers.prefix(room)
    room -= shown.count
    return .members([
      ("model", .string(name)),
      ("mode", .string(report.options.mode.name)),
      ("block_size", .integer(report.options.blockSize)),
      ("panic", .bool(isPanicking)),
      ("options", report.options.json),
      ("index", report.statistics.json),
      ("queue", report.options.queue == nil ? .null : report.queue.json),
      ("sessions", .integer(report.sessions)),
      ("workers", .array(shown.map { $0.json(worker($0.load.worker)?.facts, now) })),
      ("omitted", .integer(report.workers.count - shown.count)),
    ])
  }
}

extension JSONValue {
  static func members(_ members: [(String, JSONValue)]) -> JSONValue {
    .object(members.map { JSONValue.Member(key: $0.0, value: $0.1) })
  }

  static func worker(_ id: UInt64) -> JSONValue { .integer(Int(clamping: id)) }

  static func optional(_ number: Int?) -> JSONValue { number.map { .integer($0) } ?? .null }

  static func optional(_ number: Double?) -> JSONValue { number.map { .double($0) } ?? .null }

  /// An optional word, empty for none.
  static func word(_ word: String) -> JSONValue { word.isEmpty ? .null : .string(word) }
}

extension RoutingOptions {
  fileprivate var json: JSONValue {
    .members([
      ("overlap_score_credit", .double(cost.overlapCredit)),
      ("overlap_score_credit_decay", .double(cost.creditDecay)),
      ("host_cache_hit_weight", .double(cost.hostCredit)),
      ("disk_cache_hit_weight", .double(cost.diskCredit)),
      ("prefill_load_scale", .double(cost.prefillScale)),
      ("decode_active_request_weight", .double(cost.activeRequestWeight)),
      ("hot_prefix_spread", .bool(cost.spreadsHotPrefixes)),
      ("temperature", .double(temperature)),
      ("track_active_blocks", .bool(tracksActiveBlocks)),
      ("track_prefill_tokens", .bool(tracksPrefillTokens)),
      ("track_output_blocks", .bool(tracksOutputBlocks)),
      ("assume_kv_reuse", .bool(assumesReuse)),
      ("active_decode_blocks_threshold", .optional(busyBlocksShare)),
      ("active_prefill_tokens_threshold", .optional(busyPrefillTokens)),
      ("queue_threshold", .optional(queue?.threshold)),
      ("queue_policy", .word(queue?.policy.name ?? "")),
    ])
  }
}

extension RoutingStatistics {
  fileprivate var json: JSONValue {
    .members([
      ("selections", .integer(selections)),
      ("decisions", .integer(decisions)),
      ("bookings", .integer(bookings)),
      ("expired_bookings", .integer(expiredBookings)),
      ("corrections", .integer(corrections)),
      ("bytes", .integer(indexBytes)),
      ("nodes", .integer(indexNodes)),
      ("evicted_nodes", .integer(evictedNodes)),
      ("refused_prompts", .integer(refusedChains)),
      ("event_bytes", .integer(eventBytes)),
      ("event_blocks", .integer(eventBlocks)),
      ("refused_event_blocks", .integer(refusedEventBlocks)),
    ])
  }
}

extension QueueStatistics {
  fileprivate var json: JSONValue {
    .members([
      ("waiting", .integer(waiting)),
      ("waiting_tokens", .integer(waitingTokens)),
      ("released", .integer(released)),
      ("queued_total", .integer(queuedTotal)),
      ("released_total", .integer(releasedTotal)),
      ("cancelled_total", .integer(cancelledTotal)),
      ("refused_total", .integer(refusedTotal)),
      ("expired_total", .integer(expiredTotal)),
      ("newest_first_total", .integer(newestFirstTotal)),
    ])
  }
}

extension RouterWorkerState {
  fileprivate func json(_ facts: Worker?, _ now: Nanoseconds) -> JSONValue {
    .members([
      ("worker_id", .worker(load.worker)),
      ("url", facts.map { .string($0.url) } ?? .null),
      ("engine", facts.map { .string($0.engine.rawValue) } ?? .null),
      ("leaving", .bool(!isLive)),
      ("state", facts.map { .string($0.stateInWords.state) } ?? .null),
      ("reason", facts?.stateInWords.reason.map { .string($0) } ?? .null),
      ("recovers_for_ms", .optional(recoveringUntil.map { Double($0 - min(now, $0)) / 1e6 })),
      ("refusal", .word(refusal.label)),
      ("refused_for_ms", .optional(refusedUntil.map { Double($0 - min(now, $0)) / 1e6 })),
      ("active_requests", .integer(load.activeRequests)),
      ("active_blocks", .integer(load.activeBlocks)),
      ("active_prefill_tokens", .integer(load.prefillTokens)),
      ("reserved_prefill_tokens", .integer(reservedTokens)),
      ("max_num_batched_tokens", .integer(batchedTokensMax)),
      ("block_size", .integer(blockSize)),
      ("total_blocks", .optional(blocksMax)),
      ("cache", cache), ("truth", truth.json),
    ])
  }

  private var cache: JSONValue {
    .members([
      ("source", .string(load.cacheSource.label)),
      ("reason", .string(load.cacheReason.label)),
      ("cached_blocks", .integer(load.cachedBlocks)),
      ("predicted_blocks", .integer(predictedBlocks)),
      ("event_device_blocks", .integer(events.deviceBlocks)),
      ("event_host_blocks", .integer(events.hostBlocks)),
      ("event_disk_blocks", .integer(events.diskBlocks)),
      ("incomplete", .bool(events.isIncomplete)),
    ])
  }
}

extension CacheTruth {
  fileprivate var json: JSONValue {
    .members([
      ("observations", .integer(observations)),
      ("drifting", .bool(isDrifting)),
      ("drift", .double(drift)),
      ("bias", .double(bias)),
      ("overstated", .integer(overstated)),
      ("understated", .integer(understated)),
      ("verdicts", .integer(verdicts)),
    ])
  }
}
