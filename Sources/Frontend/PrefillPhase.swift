// How the prompt of one request is read by a worker that only does that, or why it is not; and what is counted of it.

internal import Base
internal import OpenAI
internal import Routing
internal import Synchronization
internal import Telemetry
internal import Workers

/// Which short prompts are not worth the way over another worker (Dynamo's `isl_bounding`). Short is what no worker that
/// generates has cached: both bounds must hold.
package struct ShortPrompts: Sendable, Equatable {
  /// Fewer tokens than these (`eff_isl_threshold`).
  package var tokensMax = 2_048
  /// A smaller share of the prompt than this (`eff_isl_ratio_threshold`).
  package var shareMax = 0.7

  package init() {}

  /// Whether a prompt of `tokens` tokens, `cached` of them at hand, is read where the answer is made.
  func includes(tokens: Int, cached: Int) -> Bool {
    let missing = max(0, tokens - cached)
    return missing < tokensMax && Double(missing) / Double(max(tokens, 1)) < shareMax
  }
}

/// Where the prompt of a request was read, of a model with workers for that.
enum PrefillRoute: String, CaseIterable, Sendable {
  case remote
  /// Too little of it is missing where it is answered.
  case shortPrompt = "short_prompt"
  /// It cannot be done in two parts.
  case indivisible
  /// No worker that prefills can be chosen.
  case noWorker = "no_worker"
  /// It was tried and did not come about.
  case failed
  /// The request ended meanwhile.
  case abandoned

  var label: StaticString {
    switch self {
    case .remote: "remote"
    case .shortPrompt: "short_prompt"
    case .indivisible: "indivisible"
    case .noWorker: "no_worker"
    case .failed: "failed"
    case .abandoned: "abandoned"
    }
  }
}

/// The first of a request's two parts. Loop-confined; there only where the model has workers that prefill.
final class PrefillPhase {
  let began: Nanoseconds
  private(set) var ended: Nanoseconds = 0
  /// Nil while a worker reads the prompt.
  private(set) var route: PrefillRoute?
  /// The tries at it; more than one where a worker could not be reached.
  var attempts: [PrefillAttempt] = []
  /// Where the prompt's blocks are, as the worker that read it said, for the one that generates.
  private(set) var transfer = ByteBuffer()
  /// A worker that generates may have fetched the blocks: they are not there for another one.
  var isSpent = false

  init(began: Nanoseconds) { self.began = began }

  /// Nothing is read elsewhere, or no longer: why.
  func settle(_ route: PrefillRoute, at time: Nanoseconds) {
    guard self.route == nil else { return }
    self.route = route
    ended = attempts.isEmpty ? 0 : time
  }

  /// The blocks are where `transfer` says.
  func succeed(_ transfer: UnsafeRawBufferPointer, at time: Nanoseconds) {
    self.transfer.append(transfer)
    settle(.remote, at: time)
  }

  /// The blocks wait for a worker that fetches them.
  var hasTransfer: Bool { route == .remote && !isSpent }

  var hasFailed: Bool { route == .failed }

  /// The worker that read the prompt, if one did.
  var reader: UInt64? { route == .remote ? attempts.last?.worker.id : nil }

  /// What the worker that is chosen next does.
  var part: WorkerRole { route == nil ? .prefill : hasTransfer ? .decode : .aggregated }

  /// Has a worker chosen by its load: of a prompt that comes with its blocks nothing is computed there, and what it has of
  /// it does not matter.
  func adapt(_ request: inout RoutingRequest) {
    guard hasTransfer else { return }
    request.tokens = 0
    var weights = request.weights ?? RequestWeights()
    weights.overlapCredit = 0
    weights.prefillScale = 0
    request.weights = weights
  }

  /// What `http-request` says of it.
  func write(_ spans: inout SpanWriter) {
    if let route { spans.attribute(AttributeName.prefillRoute, route.label) }
    if ended > 0 {
      spans.attribute(AttributeName.prefillMilliseconds, Double(ended - min(began, ended)) / 1e6)
    }
  }
}

/// Counts where prompts were read. Shared by all loops.
final class PrefillTally: Sendable {
  private let counters: [PrefillRoute: Counter]
  private let nextWord = Atomic<UInt64>(0)
  /// Failures are said at most as often, and counted always.
  private static let wordInterval = 10 * second

  init(_ registry: MetricRegistry) {
    counters = Dictionary(
      uniqueKeysWithValues: PrefillRoute.allCases.map {
        ($0, registry.counter(.prefillRoutes, labels: [("route", $0.rawValue)]))
      })
  }

  func count(_ route: PrefillRoute) { counters[route]?.add() }

  /// True when a failure is to be said now.
  func maySpeak(at now: Nanoseconds) -> Bool {
    let next = nextWord.load(ordering: .relaxed)
    guard now >= next else { return false }
    return nextWord.compareExchange(expected: next, desired: now + Self.wordInterval, ordering: .relaxed)
      .exchanged
  }
}
