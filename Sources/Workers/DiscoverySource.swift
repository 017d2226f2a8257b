// What the directory asks of whatever finds workers that register themselves, and what it hears from it.

internal import Base

/// A registered instance as found.
struct DiscoveryFinding: Sendable, Equatable {
  let record: DiscoveryRecord
  let card: ModelCard
  /// When the owner gave its last sign of life, in nanoseconds since the Unix epoch.
  var touched: UInt64
}

/// An instance that real Dynamo registered, whose transport is not spoken here.
struct ForeignRecord: Sendable, Equatable {
  let key: String
  /// Dynamo's word for its transport; nil when the record does not say.
  let transport: String?
  /// As in ``DiscoveryFinding``.
  var touched: UInt64
}

/// Everything that a source knows at one moment.
struct DiscoveryScan: Sendable, Equatable {
  var findings: [DiscoveryFinding] = []
  /// Records that cannot be used, by key, with the reason; the same each time while they stay.
  var unusable: [String: String] = [:]
  var foreign: [ForeignRecord] = []
}

/// Finds workers. Confined to the directory's loop; hears of nothing after ``close()``.
protocol DiscoverySource: AnyObject {
  /// What its workers' ``Worker/source`` says.
  var kind: WorkerSource { get }
  /// Begins; may report from inside.
  func start(_ sink: any DiscoverySink)
  func close()
}

/// Hears what a source found.
protocol DiscoverySink: AnyObject {
  /// These records are there and no others.
  func found(_ scan: DiscoveryScan)
  /// These servers are there and no others; they have no record and are asked what they are.
  func found(servers: [WorkerURL])
  /// The source cannot be reached: what was known stays. Told again with each attempt.
  func sourceFailed(_ reason: String)
}
