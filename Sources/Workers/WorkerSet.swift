// The set of workers at one moment: what every loop reads without a lock.

internal import Base
package import OpenAI
package import Routing

/// A model with the workers that serve it now, and the routing state that outlives snapshots.
package final class ServedModel: Sendable {
  package let name: String
  private let nameBytes: [UInt8]
  /// Ready workers; empty when the model was served within the last hour and is not now. Those that only prefill are
  /// not among them.
  package let workers: [ReadyWorker]
  /// Its ready workers that only prefill, with a routing state of their own; nil where there are none.
  package let prefill: ServedModel?
  /// What ``workers`` do: ``WorkerRole/prefill``, or whole requests.
  package let role: WorkerRole
  /// Seconds since the Unix epoch at which the model was first seen.
  package let created: Int
  package let routing: ModelRouting
  /// In which block sizes its prompts are hashed.
  package let blockSizes: BlockSizes
  /// The engine of its workers: of those that say what they are, the first.
  package let engine: EngineKind
  /// So many of its workers would be out of service that those who were ejected take requests again.
  package let isPanicking: Bool
  /// It is a LoRA adapter, so that its prompts share no blocks with the base model's.
  package let isAdapter: Bool
  /// For each endpoint the workers that serve it, nil for all; by raw value.
  private let serving: [[UInt64]?]

  package init(
    name: String, workers: [Worker], created: Int, routing: ModelRouting,
    isPanicking: Bool = false, prefill: ServedModel? = nil, role: WorkerRole = .aggregated
  ) {
    self.prefill = prefill
    self.role = role
    self.isPanicking = isPanicking
    self.name = name
    nameBytes = Array(name.utf8)
    self.workers = workers.map { ReadyWorker($0) }
    engine = workers.lazy.map(\.engine).first { $0 != .unknown } ?? .unknown
    isAdapter = workers.contains { $0.adapters.contains(name) }
    serving = Endpoint.allCases.map { Self.workers(workers, serving: $0) }
    speaksMessages = workers.contains { $0.endpoints.contains(.messages) }
    self.created = created
    self.routing = routing
    blockSizes = BlockSizes(
      model: routing.options.blockSize,
      workers: workers.map(\.blockSize) + (prefill?.workers.map(\.facts.blockSize) ?? []))
  }

  /// True while anything of it is ready, if only workers that prefill.
  package var hasWorkers: Bool { !workers.isEmpty || prefill != nil }

  /// The workers that a request of `endpoint` may go to; nil for all. A message of Anthropic's API may also go, translated,
  /// to those that take chats.
  package func workers(serving endpoint: Endpoint) -> [UInt64]? { serving[Int(endpoint.rawValue)] }

  /// True when a worker takes requests of Anthropic's API as they come.
  package let speaksMessages: Bool

  private static func workers(_ workers: [Worker], serving endpoint: Endpoint) -> [UInt64]? {
    var wanted = EndpointSet(endpoint)
    if case .messages = endpoint { wanted.formUnion(EndpointSet(.chatCompletions)) }
    let able = workers.filter { !$0.endpoints.isDisjoint(with: wanted) }
    return able.count == workers.count ? nil : able.map(\.id)
  }

  /// True when `bytes` spell the model's name.
  package func isNamed(_ bytes: UnsafeRawBufferPointer) -> Bool {
    nameBytes.withUnsafeBytes { $0.equals(bytes) }
  }

  /// The ready worker with this id.
  package func worker(_ id: UInt64) -> ReadyWorker? { workers.first { $0.id == id } }
}

/// An immutable snapshot of all workers.
package final class WorkerSet: Sendable {
  /// Counts snapshots up; a higher one is newer.
  package let generation: Int
  /// All workers, ready or not, in order of discovery.
  package let workers: [Worker]
  package let models: [ServedModel]
  /// All groups of workers among which is chosen: each model's, and those of them that only prefill.
  package var pools: [ServedModel] { models + models.compactMap(\.prefill) }
  /// Registered workers that are not among ``workers``.
  package let unused: UnusedRecords

  package init(
    generation: Int, workers: [Worker], models: [ServedModel], unused: UnusedRecords = UnusedRecords()
  ) {
    self.unused = unused
    self.generation = generation
    self.workers = workers
    self.models = models
  }

  /// The set before anything is known.
  package static let empty = WorkerSet(generation: 0, workers: [], models: [])

  /// The model that `name` spells, by index into ``models``; nil when it is not known. A fleet serves few models, so a
  /// comparison of each beats a hash.
  package func modelIndex(_ name: UnsafeRawBufferPointer) -> Int? {
    for index in models.indices where models[index].isNamed(name) { return index }
    return nil
  }

  /// True when at least one worker can serve.
  package var hasReadyWorker: Bool { models.contains { $0.workers.contains { $0.facts.takesRequests } } }
}
