// Which traces are recorded: decided at the head by a sampler, and at the end by what happened.

package import Base

/// Which traces are recorded, decided at the head (OpenTelemetry SDK specification, "Sampler").
package struct Sampler: Sendable {
  private enum Rule {
    case on
    case off
    /// This share of traces, and the tracestate of one that begins here and is kept.
    case share(SamplingThreshold, state: [UInt8])
  }

  /// What is done with a trace that nobody decided on, or with every trace.
  private let rule: Rule
  /// A caller's decision is followed where there is one.
  private let followsParent: Bool

  package static let alwaysOn = Sampler(.on, followsParent: false)
  package static let alwaysOff = Sampler(.off, followsParent: false)
  package static let parentBasedAlwaysOn = Sampler(.on, followsParent: true)
  package static let parentBasedAlwaysOff = Sampler(.off, followsParent: true)

  /// This share of traces, whatever the parent says.
  package static func ratio(_ share: Double) -> Sampler { Sampler(rule(share), followsParent: false) }

  /// As the parent says; of the roots this share.
  package static func parentBasedRatio(_ share: Double) -> Sampler {
    Sampler(rule(share), followsParent: true)
  }

  private init(_ rule: Rule, followsParent: Bool) {
    self.rule = rule
    self.followsParent = followsParent
  }

  private static func rule(_ share: Double) -> Rule {
    // A share that is no number keeps all: too many spans are noticed sooner than none.
    let threshold = SamplingThreshold(keeping: share.isNaN ? 1 : share)
    return .share(threshold, state: OpenTelemetryState([]).list(threshold))
  }

  /// `OTEL_TRACES_SAMPLE_RATIO` is short for a parent-based ratio; else `OTEL_TRACES_SAMPLER` with its argument.
  package init(named name: String?, argument: Double?, ratio: Double?) {
    if let ratio {
      self = .parentBasedRatio(ratio)
      return
    }
    let share = argument ?? 1
    switch name {
    case "always_on": self = .alwaysOn
    case "always_off": self = .alwaysOff
    case "traceidratio": self = .ratio(share)
    case "parentbased_always_off": self = .parentBasedAlwaysOff
    case "parentbased_traceidratio": self = .parentBasedRatio(share)
    default: self = .parentBasedAlwaysOn
    }
  }

  /// Decides on a trace, and brings the threshold in its tracestate up to date.
  ///
  /// - Parameters:
  ///   - parent: whether the remote parent is sampled; nil when nobody decided.
  ///   - state: the caller's tracestate, valid; on return what is recorded and passed on. `rv` in it stands for the
  ///     trace id's random bits, and stays. `th` is set by a share that keeps the trace, left alone where the caller is
  ///     followed and the two agree, and erased where it would no longer be true.
  package func samples(_ trace: TraceID, parent: Bool?, state: inout [UInt8]) -> Bool {
    if followsParent, let parent {
      guard !state.isEmpty else { return parent }
      let told = OpenTelemetryState(state)
      if let threshold = told.threshold, threshold.keeps(told.randomness ?? trace.randomness) != parent {
        state = told.list(nil)
      }
      return parent
    }
    switch rule {
    case .on:
      if !state.isEmpty { replaceThreshold(in: &state, with: .zero) }
      return true
    case .off:
      if !state.isEmpty { replaceThreshold(in: &state, with: nil) }
      return false
    case .share(let threshold, let alone):
      guard !state.isEmpty else {
        guard threshold.keeps(trace.randomness) else { return false }
        state = alone
        return true
      }
      let told = OpenTelemetryState(state)
      let isKept = threshold.keeps(told.randomness ?? trace.randomness)
      if isKept || told.threshold != nil { state = told.list(isKept ? threshold : nil) }
      return isKept
    }
  }

  /// Changes the threshold of a list that has one.
  private func replaceThreshold(in state: inout [UInt8], with threshold: SamplingThreshold?) {
    let told = OpenTelemetryState(state)
    if told.threshold != nil { state = told.list(threshold) }
  }
}

/// What is kept although the sampler said no (`DYN_TRACE_KEEP`), decided when a request ends. The other half of the
/// trace, in another process, decides for itself: such spans say so by `sampling.partial`.
package struct TraceKeep: Sendable, Equatable {
  /// Requests that failed by our or a worker's fault.
  package var errors = false
  /// Requests that more than one worker was asked for.
  package var retries = false
  /// Requests that took longer than this; nil keeps none for their length.
  package var slowerThan: Nanoseconds?

  package static let none = TraceKeep()

  /// True when something may be kept, so that spans must be written before it is known.
  package var isActive: Bool { errors || retries || slowerThan != nil }

  package init() {}

  /// Reads words with commas between: `errors`, `retries`, `slow=` and a number of seconds or of `ms`.
  ///
  /// - Parameter warnings: gets a message for each part that is none of these, which is left out.
  package init(parsing text: String, warnings: inout [String]) {
    for part in text.split(separator: ",") {
      let word = part.filter { $0 != " " && $0 != "\t" }.lowercased()
      switch word {
      case "": break
      case "errors": errors = true
      case "retries": retries = true
      default:
        if word.hasPrefix("slow="), let bound = Self.duration(word.dropFirst(5)) {
          slowerThan = bound
        } else {
          warnings.append(
            "\(EnvironmentName.traceKeep) has a part that is none of errors, retries, slow=SECONDS: \(part)")
        }
      }
    }
  }

  private static func duration(_ text: Substring) -> Nanoseconds? {
    let isMilliseconds = text.hasSuffix("ms")
    let digits = isMilliseconds ? text.dropLast(2) : text.hasSuffix("s") ? text.dropLast() : text
    guard let number = Double(digits), (0...1e6).contains(number) else { return nil }
    return Nanoseconds(number * Double(isMilliseconds ? millisecond : second))
  }

  /// Why a request is kept, as `sampling.kept` says it; nil when it is not.
  package func reason(failed: Bool, retried: Bool, lasted: Nanoseconds) -> StaticString? {
    if errors, failed { return "error" }
    if retries, retried { return "retry" }
    if let slowerThan, lasted > slowerThan { return "slow" }
    return nil
  }
}
