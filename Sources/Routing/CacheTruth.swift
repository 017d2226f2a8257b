// How far the router's idea of a worker's cache is from what the engine reports.

/// Compares predicted overlaps with reported cached tokens, request by request.
///
/// The drift of a request is the share of its prompt by which the two differ. Its mean says whether the worker's cache is
/// known: a wrong block size, hash space or salt, or caching switched off, show as a drift near the overlap itself.
package struct CacheTruth: Sendable, Equatable, BitwiseCopyable {
  /// Mean drift at which a worker begins to count as drifting, and below which it ends.
  package static let driftingFrom = 0.3
  package static let driftingUntil = 0.15
  /// Requests compared before there is a verdict; the mean looks back over twice as many.
  package static let observationsMin = 16
  /// Prompts under this many tokens are not compared: a block more or less is much of them.
  static let tokensMin = 64

  package private(set) var observations = 0
  /// Requests of which less than half of the predicted tokens were cached, and those that had at least twice as many;
  /// differences within one block do not count.
  package private(set) var overstated = 0
  package private(set) var understated = 0
  /// Mean share of the prompt by which prediction and report differ, from 0 to 1.
  package private(set) var drift = 0.0
  /// The same with its sign: above 0 the router promises too much.
  package private(set) var bias = 0.0
  package private(set) var isDrifting = false
  /// Times that a verdict of drifting began.
  package private(set) var verdicts = 0

  package init() {}

  /// Takes one request's figures, all in the engine's tokens.
  ///
  /// - Returns: true when the verdict changed.
  mutating func observe(predicted: Double, reported: Double, prompt: Double, blockSize: Int) -> Bool {
    guard prompt >= Double(Self.tokensMin) else { return false }
    let difference = min(max((predicted - reported) / prompt, -1), 1)
    observations += 1
    let weight = 1 / Double(min(observations, 2 * Self.observationsMin))
    drift += (abs(difference) - drift) * weight
    bias += (difference - bias) * weight
    if abs(predicted - reported) > Double(blockSize) {
      if reported * 2 < predicted { overstated += 1 }
      if predicted * 2 < reported { understated += 1 }
    }
    guard observations >= Self.observationsMin else { return false }
    let was = isDrifting
    isDrifting = was ? drift >= Self.driftingUntil : drift >= Self.driftingFrom
    if isDrifting, !was { verdicts += 1 }
    return was != isDrifting
  }
}
