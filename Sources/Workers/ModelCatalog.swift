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
    lines.lazy.filter { $0.served.workers.isEmpty }.map { $0.lastServed + memory }.min()
  }

  /// Takes the present workers in. A model that is known keeps its routing state and its time of first sight; one
  /// whose workers are unchanged keeps its whole entry. Routing states hear of changed workers.
  mutating func update(_ workers: [Worker], now: Nanoseconds, wallSeconds: Int) {
    var serving: [String: [Worker]] = [:]
    var names: [String] = []
    for worker in workers where worker.isReady {
      for name in worker.models {
        if serving[name] == nil { names.append(name) }
        serving[name, default: []].append(worker)
      }
    }
    let panicking = panic(workers, &serving)
    for index in lines.indices {
      let old = lines[index].served
      let present = serving.removeValue(forKey: old.name) ?? []
      if !present.isEmpty || !old.workers.isEmpty { lines[index].lastServed = now }
      // In a panic the facts stay as they are, and that there is one does not.
      guard
        !present.hasSameFacts(as: old.workers.map(\.facts))
          || panicking.contains(old.name) != old.isPanicking
      else { continue }
      var routing = old.routing
      // Engines that came back with other blocks: what is known of the old ones cannot be compared.
      if old.workers.isEmpty, let size = present.first?.blockSize, size != routing.options.blockSize {
        routing = makeRouting(blockSize: size)
      }
      lines[index].served = ServedModel(
        name: old.name, workers: present, created: old.created, routing: routing,
        isPanicking: panicking.contains(old.name))
      routing.workersChanged(present)
    }
    lines.removeAll { $0.served.workers.isEmpty && $0.lastServed + memory <= now }
    refusedCount = 0
    for name in names {
      guard let present = serving[name] else { continue }
      guard lines.count < modelsMax else {
        refusedCount += 1
        continue
      }
      let served = ServedModel(
        name: name, workers: present, created: wallSeconds,
        routing: makeRouting(blockSize: present[0].blockSize), isPanicking: panicking.contains(name))
      served.routing.workersChanged(present)
      lines.append(Line(served: served, lastServed: now))
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
    for line in lines { line.served.routing.adopt(weights) }
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
      && sequencesMax == other.sequencesMax
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
