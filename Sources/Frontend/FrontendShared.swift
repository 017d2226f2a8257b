// What all loops of the frontend share: switches, bounds and counters, all of them atomics or immutable.

internal import Base
internal import EventLoop
internal import JSON
internal import Synchronization
internal import TLS
internal import Telemetry
internal import Transport
package import Workers

/// Hears from the loops what they learn about workers, and tells them the latest.
package protocol WorkerReports: AnyObject, Sendable {
  /// The newest snapshot; takes a lock, and is not for the path of every request.
  var current: WorkerSet { get }
  /// A connect to this worker failed: it should not be chosen for a while.
  func connectFailed(_ worker: UInt64)
  /// A connect to this worker was not made in time, which may be the fault of anybody between.
  func connectTimedOut(_ worker: UInt64)
  /// Requests of this worker failed one after the other.
  func requestsFailed(_ worker: UInt64)
}

/// State that is shared by the loops of one frontend.
package final class FrontendShared: Sendable {
  let metrics: FrontendMetrics
  let loads: LoopLoads
  let listenerCounters = ListenerCounters()
  let registry: MetricRegistry
  /// Where long prompts are preprocessed.
  let pool: ThreadPool
  let shedding = Shedding()
  private let memoryBytesMax = Atomic<Int>(0)
  private let bodyMemoryMax: Atomic<Int>
  /// The part of it that is lent and not given.
  private let bodyMemoryLoan: Atomic<Int>
  private let bodyMemory = Atomic<Int>(0)
  private let bodyLoanIsOut = Atomic<Bool>(false)
  private let certificateEndSeconds = Atomic<Int>(0)
  /// The text of `/openapi.json`, and what it was made for.
  private let openAPI = Mutex<(features: OpenAPIDocument.Features, text: [UInt8])?>(nil)
  let prefills: PrefillTally
  private let openRetries = Atomic<Int>(0)
  private let draining = Atomic<Bool>(false)
  private let refusing = Atomic<Bool>(false)

  init(configuration: FrontendConfiguration, registry: MetricRegistry) throws(SystemError) {
    self.registry = registry
    pool = try ThreadPool(waitingMax: configuration.preprocess.waitingMax)
    metrics = FrontendMetrics(registry)
    prefills = PrefillTally(registry)
    loads = LoopLoads(count: configuration.threads)
    bodyMemoryMax = Atomic(configuration.bodyMemoryMax)
    bodyMemoryLoan = Atomic(configuration.bodyMemoryLoan)
    adopt(configuration)
  }

  /// True from the first signal to stop on: `/ready` says no.
  var isDraining: Bool { draining.load(ordering: .relaxed) }

  /// True once the grace period is over: new requests are refused.
  var isRefusingWork: Bool { refusing.load(ordering: .relaxed) }

  func beginDraining() { draining.store(true, ordering: .relaxed) }

  func beginRefusing() { refusing.store(true, ordering: .relaxed) }

  /// Takes the bounds that all loops share from a new configuration.
  func adopt(_ configuration: FrontendConfiguration) {
    memoryBytesMax.store(configuration.memoryMax ?? 0, ordering: .relaxed)
    bodyMemoryMax.store(configuration.bodyMemoryMax, ordering: .relaxed)
    bodyMemoryLoan.store(configuration.bodyMemoryLoan, ordering: .relaxed)
    certificateEndSeconds.store(configuration.security?.context.certificateEnd ?? 0, ordering: .relaxed)
  }

  /// Bytes that the process may have resident; nil for no bound.
  var memoryMax: Int? {
    let bytes = memoryBytesMax.load(ordering: .relaxed)
    return bytes > 0 ? bytes : nil
  }

  /// When the certificate that is served ends, in seconds since the Unix epoch.
  var certificateEnd: Int { certificateEndSeconds.load(ordering: .relaxed) }

  /// Appends the text of `/openapi.json`, which is made once for each set of routes that there is.
  func appendOpenAPI(_ configuration: FrontendConfiguration, to body: inout ByteBuffer) {
    let features = OpenAPIDocument.Features(configuration)
    let text = openAPI.withLock { known in
      if let known, known.features == features { return known.text }
      var made = ByteBuffer(capacity: 64 << 10)
      made.append(OpenAPIDocument(features).json)
      known = (features, made.bytes)
      return made.bytes
    }
    body.append(text)
  }

  /// Books one repeated request while that stays within the budget; false when it does not.
  func beginRetry(_ rules: RetryRules) -> Bool {
    // Compared, not added and taken back, for the reason of body memory below.
    let openRequests = loads.openRequests
    var retries = openRetries.load(ordering: .relaxed)
    while rules.allows(retries: retries, openRequests: openRequests) {
      let (isBooked, present) = openRetries.compareExchange(
        expected: retries, desired: retries + 1, ordering: .relaxed)
      if isBooked { return true }
      retries = present
    }
    metrics.retriesRefused.add()
    return false
  }

  /// A repeated request is over.
  func endRetry() { openRetries.subtract(1, ordering: .relaxed) }

  /// Repeated requests in progress.
  var retriesInProgress: Int { openRetries.load(ordering: .relaxed) }

  /// Takes `count` bytes of what request bodies may hold together; false when there is not so much left.
  ///
  /// - Parameter borrows: the caller has the loan, and may take of its part too.
  func reserveBodyMemory(_ count: Int, borrows: Bool = false) -> Bool {
    let most =
      bodyMemoryMax.load(ordering: .relaxed) - (borrows ? 0 : bodyMemoryLoan.load(ordering: .relaxed))
    var taken = bodyMemory.load(ordering: .relaxed)
    // Compared, not added and taken back: a loop that fails must not make another fail beside it.
    while taken + count <= most {
      let (isTaken, present) = bodyMemory.compareExchange(
        expected: taken, desired: taken + count, ordering: .relaxed)
      if isTaken { return true }
      taken = present
    }
    return false
  }

  /// Takes the loan, which one half-read body of the process may have at a time; false while another has it.
  func borrowBodyMemory() -> Bool {
    bodyLoanIsOut.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged
  }

  /// Gives the loan to whoever asks next. What was taken by it stays taken.
  func endBodyLoan() { bodyLoanIsOut.store(false, ordering: .relaxed) }

  /// Bytes of it that are taken.
  var bodyMemoryInUse: Int { bodyMemory.load(ordering: .relaxed) }

  func releaseBodyMemory(_ count: Int) { bodyMemory.subtract(count, ordering: .relaxed) }
}
