// The models that workers serve or served lately, with the routing state that outlives snapshots.

internal import Base
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
  private var lines: [Line] = []
  /// Models that found no room.
  private(set) var refusedCount = 0

  /// - Parameter memory: how long a model without ready workers stays known.
  init(memory: Nanoseconds, modelsMax: Int) {
    self.memory = memory
    self.modelsMax = modelsMax
  }

  /// The models in order of first sight.
  var models: [ServedModel] { lines.map(\.served) }

  /// When the next model may be forgotten; nil while all have workers.
  var nextExpiry: Nanoseconds? {
    lines.lazy.filter { $0.served.workers.isEmpty }.map { $0.lastServed + memory }.min()
  }

  /// The routing states of the models that the worker serves now.
  func routings(of worker: UInt64) -> [ModelRouting] {
    lines.filter { $0.served.worker(worker) != nil }.map(\.served.routing)
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
    for index in lines.indices {
      let old = lines[index].served
      let present = serving.removeValue(forKey: old.name) ?? []
      if !present.isEmpty || !old.workers.isEmpty { lines[index].lastServed = now }
      guard !present.hasSameFacts(as: old.workers) else { continue }
      lines[index].served = ServedModel(
        name: old.name, workers: present, created: old.created, routing: old.routing)
      old.routing.workersChanged(present)
    }
    lines.removeAll { $0.served.workers.isEmpty && $0.lastServed + memory <= now }
    refusedCount = 0
    for name in names {
      guard let present = serving[name] else { continue }
      guard lines.count < modelsMax else {
        refusedCount += 1
        continue
      }
      let served = ServedModel(name: name, workers: present, created: wallSeconds, routing: ModelRouting())
      served.routing.workersChanged(present)
      lines.append(Line(served: served, lastServed: now))
    }
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
      && isDynamoWorker == other.isDynamoWorker && upstream.addresses == other.upstream.addresses
      && upstream.authority == other.upstream.authority && upstream.pathPrefix == other.upstream.pathPrefix
  }
}

extension [Worker] {
  func hasSameFacts(as other: [Worker]) -> Bool {
    count == other.count && zip(self, other).allSatisfy { $0.hasSameFacts(as: $1) }
  }
}
