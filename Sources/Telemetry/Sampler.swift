// Which traces are recorded: decided at the head by a sampler, and at the end by what happened.

package import Base

/// Which traces are recorded, decided at the head (OpenTelemetry SDK specification, "Sampler").
package enum Sampler: Sendable {
  case alwaysOn
  case alwaysOff
  case parentBasedAlwaysOn
  case parentBasedAlwaysOff
  /// This share of traces, whatever the parent says.
  case ratio(Double)
  /// As the parent says; of the roots this share.
  case parentBasedRatio(Double)

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

  /// The decision for a trace; `parent` says whether the remote parent is sampled, nil for a root.
  package func samples(_ trace: TraceID, parent: Bool?) -> Bool {
    switch self {
    case .alwaysOn: true
    case .alwaysOff: false
    case .parentBasedAlwaysOn: parent ?? true
    case .parentBasedAlwaysOff: parent ?? false
    case .ratio(let share): Self.keeps(trace, share)
    case .parentBasedRatio(let share): parent ?? Self.keeps(trace, share)
    }
  }

  /// A lower share keeps a subset of what a higher one keeps: the trace's 56 random bits against a rejection threshold
  /// (OpenTelemetry specification, probability sampling).
  private static func keeps(_ trace: TraceID, _ share: Double) -> Bool {
    let rejected = UInt64((1 - min(max(share, 0), 1)) * 0x1p56)
    return trace.randomness >= rejected
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
