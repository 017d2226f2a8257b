// The models that workers serve or served lately, with the routing state that outlives snapshots.

internal import Base
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport

/// Keeps models over time. Told the time: `now` is monotonic, `wallSeconds` counts from the Unix epoch.
struct ModelCatalog {
  private struct Line {
    var served: ServedModel
    /// Of its workers that only prefill; outlives their absence.
    var prefillRouting: ModelRouting?
    /// When it last had a ready worker.
    var lastServed: Nanoseconds
  }

  private let memory: Nanoseconds
  private let modelsMax: Int
  private var routing: RoutingOptions
  private let lockWait: Histogram?
  private let panicShare: Double
  private var lines: [Line] = []
  /// Models that found no room.
  private(set) var refusedCount = 0

  /// - Parameters:
  ///   - memory: how long a model without ready workers stays known.
  ///   - routing: what each model's routing state begins with, but for the block size, which its workers tell.
  ///   - panicShare: of a model's workers: while more than it are out of service, nobody is ejected.
  ///   - lockWait: where waits for routing states are observed.
  init(
    memory: Nanoseconds, modelsMax: Int, routing: RoutingOptions = RoutingOptions(),
    lockWait: Histogram? = nil, panicShare: Double = 1
  ) {
    self.panicShare = panicShare
    self.memory = memory
    self.modelsMax = modelsMax
    self.routing = routing
    self.lockWait = lockWait
  }

  /// The models in order of first sight.
  var models: [ServedModel] { lines.map(\.served) }

  /// When the next model may be forgotten; nil while all have workers.
  var nextExpiry: Nanoseconds? {
    lines.lazy.filter { !$0.served.hasWorkers }.map { $0.lastServed + memory }.min()
  }

  /// Takes the present workers in. A model that is known keeps its routing state and its time of first sight; one
  /// whose workers are unchanged keeps its whole entry. Routing states hear of changed workers.
  mutating func update(_ workers: [Worker], now: Nanoseconds, wallSeconds: Int) {
    var serving: [String: [Worker]] = [:]
    var prefilling: [String: [Worker]] = [:]
    var names: [String] = []
    for worker in workers where worker.isReady {
      for name in worker.models {
        if serving[name] == nil, prefilling[name] == nil { names.append(name) }
        if case .prefill = worker.role {
          prefilling[name, default: []].append(worker)
        } else {
          serving[name, default: []].append(worker)
        }
      }
    }
    // Without workers that prefill the others do it: of them nobody must be kept.
    let panicking = panic(workers.filter { $0.role != .prefill }, &serving)
    for index in lines.indices {
      let old = lines[index].served
      let present = serving.removeValue(forKey: old.name) ?? []
      let prefill = prefilling.removeValue(forKey: old.name) ?? []
      if !present.isEmpty || !prefill.isEmpty || old.hasWorkers { lines[index].lastServed = now }
      // In a panic the facts stay as they are, and that there is one does not.
      guard
        !present.hasSameFacts(as: old.workers.map(\.facts))
          || !prefill.hasSameFacts(as: old.prefill?.workers.map(\.facts) ?? [])
          || panicking.contains(old.name) != old.isPanicking
      else { continue }
      var routing = old.routing
      // Engines that came back with other blocks: what is known of the old ones cannot be compared.
      if old.workers.isEmpty, let size = present.first?.blockSize, size != routing.options.blockSize {
        routing = makeRouting(blockSize: size)
      }
      lines[index].served = ServedModel(
        name: old.name, workers: present, created: old.created, routing: routing,
        isPanicking: panicking.contains(old.name),
        prefill: makePrefill(
          old.name, prefill, created: old.created, beside: routing, &lines[index].prefillRouting))
      routing.workersChanged(present)
    }
    lines.removeAll { !$0.served.hasWorkers && $0.lastServed + memory <= now }
    refusedCount = 0
    for name in names {
      let present = serving[name] ?? []
      let prefill = prefilling[name] ?? []
      guard let first = present.first ?? prefill.first else { continue }
      guard lines.count < modelsMax else {
        refusedCount += 1
        continue
      }
      let routing = makeRouting(blockSize: first.blockSize)
      var prefillRouting: ModelRouting?
      let served = ServedModel(
        name: name, workers: present, created: wallSeconds, routing: routing,
        isPanicking: panicking.contains(name),
        prefill: makePrefill(name, prefill, created: wallSeconds, beside: routing, &prefillRouting))
      routing.workersChanged(present)
      lines.append(Line(served: served, prefillRouting: prefillRouting, lastServed: now))
    }
  }

  /// Finds the models of which too many workers would be out, or all: there nobody is ejected, for a worker that fails some
  /// requests is better than none, and what fails everywhere is no worker's fault.
  private func panic(_ workers: [Worker], _ serving: inout [String: [Worker]]) -> Set<String> {
    guard workers.contains(where: { $0.isReady && $0.isEjected }) else { return [] }
    var counts: [String: (all: Int, out: Int)] = [:]
    // One that drains leaves by an operator's will: it is neither.
    for worker in workers where !worker.isDraining {
      for name in worker.models {
        counts[name, default: (0, 0)].all += 1
        if !worker.takesRequests { counts[name, default: (0, 0)].out += 1 }
      }
    }
    var panicking: Set<String> = []
    for (name, present) in serving where present.contains(where: \.isEjected) {
      guard let count = counts[name],
        count.out >= count.all || Double(count.out) > panicShare * Double(count.all)
      else { continue }
      panicking.insert(name)
      serving[name] = present.map { worker in
        var worker = worker
        if worker.isEjected { worker.standing = .full }
        return worker
      }
    }
    return panicking
  }

  /// Weighs by `weights` from now on: in the models there are, and in those to come.
  mutating func adopt(_ weights: RoutingWeights) {
    routing.weights = weights
    for line in lines {
      line.served.routing.adopt(weights)
      line.prefillRouting?.adopt(weights)
    }
  }

  /// The workers of a model that only prefill, with a routing state of their own: what they cache and have to do is
  /// nothing that the others have. Its blocks are the model's, so that one hashing of a prompt does for both.
  private func makePrefill(
    _ name: String, _ workers: [Worker], created: Int, beside routing: ModelRouting,
    _ known: inout ModelRouting?
  ) -> ServedModel? {
    let size = routing.options.blockSize
    if let options = known?.options, options.blockSize != size { known = nil }
    guard !workers.isEmpty || known != nil else { return nil }
    let own = known ?? ModelRouting(options: Self.prefillOptions(routing.options), lockWait: lockWait)
    known = own
    own.workersChanged(workers)
    guard !workers.isEmpty else { return nil }
    return ServedModel(name: name, workers: workers, created: created, routing: own, role: .prefill)
  }

  /// A worker that only prefills holds no blocks of running answers, and nobody waits for one: others can do it.
  private static func prefillOptions(_ common: RoutingOptions) -> RoutingOptions {
    var options = common
    options.tracksActiveBlocks = false
    options.tracksOutputBlocks = false
    options.busyBlocksShare = nil
    options.queue = nil
    return options
  }

  private func makeRouting(blockSize: Int) -> ModelRouting {
    var options = routing
    options.blockSize = blockSize
    return ModelRouting(options: options, lockWait: lockWait)
  }
}

extension WorkerState {
  func isSame(as other: WorkerState) -> Bool {
    switch (self, other) {
    case (.ready, .ready), (.unprobed, .unprobed): true
    case (.unreachable(let mine), .unreachable(let theirs)): mine == theirs
    default: false
    }
  }
}

extension Worker {
  /// True when nothing that a reader of a snapshot sees differs.
  func hasSameFacts(as other: Worker) -> Bool {
    id == other.id && url == other.url && source == other.source && state.isSame(as: other.state)
      && models == other.models && blockSize == other.blockSize && totalBlocks == other.totalBlocks
      && isDynamoWorker == other.isDynamoWorker && engine == other.engine && adapters == other.adapters
      && isDraining == other.isDraining && standing == other.standing && contextLength == other.contextLength
      && sequencesMax == other.sequencesMax && role == other.role && migrationLimit == other.migrationLimit
      && batchedTokensMax == other.batchedTokensMax && prompts == other.prompts
      && endpoints == other.endpoints && eventSources == other.eventSources
      && upstream.addresses == other.upstream.addresses
      && upstream.authority == other.upstream.authority && upstream.pathPrefix == other.upstream.pathPrefix
      && upstream.isMultiplexed == other.upstream.isMultiplexed
      && upstream.security?.context === other.upstream.security?.context
  }
}

extension [Worker] {
  func hasSameFacts(as other: [Worker]) -> Bool {
    count == other.count && zip(self, other).allSatisfy { $0.hasSameFacts(as: $1) }
  }
}
