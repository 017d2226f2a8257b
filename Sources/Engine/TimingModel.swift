// How long a step of the simulated engine takes: the default polynomials of Dynamo's mocker.

package import Base

/// Times of prefill and decode, fitted by Dynamo's mocker to a real GPU, divided by the speed-up ratios.
package struct TimingModel: Sendable {
  private let speedup: Double
  private let decodeSpeedup: Double
  private let transferNanosecondsPerToken: Double

  /// Creates the model of `configuration`'s two ratios.
  package init(_ configuration: EngineConfiguration) {
    speedup = configuration.speedupRatio
    decodeSpeedup = configuration.decodeSpeedupRatio
    // Bytes by gigabytes in a second are nanoseconds.
    transferNanosecondsPerToken =
      configuration.transferBandwidth > 0
      ? Double(configuration.bytesPerToken) / configuration.transferBandwidth : 0
  }

  /// Milliseconds that computing `tokens` new prompt tokens takes in one step, before any speed-up; 0 for none.
  package static func prefillMilliseconds(tokens: Int) -> Double {
    guard tokens > 0 else { return 0 }
    let count = Double(tokens)
    return 4.209989e-07 * count * count + 1.518344e-02 * count + 16.50142
  }

  /// Milliseconds that one decode step takes while `usage` (0 to 1) of the cache is in active use.
  package static func decodeMilliseconds(usage: Double) -> Double {
    let share = min(1, max(0, usage))
    return max(1, -25.74 * share * share + 54.01 * share + 5.74)
  }

  /// How long the cache entries of `tokens` tokens take on their way from another engine.
  package func transfer(tokens: Int) -> Nanoseconds {
    guard speedup > 0 else { return 0 }
    return Nanoseconds(min(Double(tokens) * transferNanosecondsPerToken / speedup, 1e15))
  }

  /// The length of a step that computes `prefillTokens` and, when `decodes`, a token of each running request.
  package func step(prefillTokens: Int, decodes: Bool, usage: Double) -> Nanoseconds {
    guard speedup > 0 else { return 0 }
    var milliseconds = Self.prefillMilliseconds(tokens: prefillTokens)
    if decodes, decodeSpeedup > 0 {
      milliseconds += Self.decodeMilliseconds(usage: usage) / decodeSpeedup
    }
    return Nanoseconds(min(milliseconds / speedup * 1e6, 1e15))
  }
}
