// How many tokens a prompt has when no tokenizer says so.

/// Tokens estimated from canonical bytes: a quarter of them, times a factor learnt from what engines report.
///
/// The router itself counts in quarters of bytes throughout, so that blocks and tokens stay in one unit; the factor is
/// for what people read (spans, metrics).
package struct TokenEstimate: Sendable {
  /// Reported tokens for each quarter of a byte's share; 1 until something is reported.
  package private(set) var factor = 1.0
  private var observations = 0

  package init() {}

  /// The uncorrected estimate.
  package static func quarter(ofBytes bytes: Int) -> Int { bytes / PromptBlocks.tokenBytes }

  /// The corrected estimate.
  package func tokens(forBytes bytes: Int) -> Int {
    Int((Double(bytes) / Double(PromptBlocks.tokenBytes) * factor).rounded())
  }

  /// Learns from a prompt of `bytes` canonical bytes for which the engine counted `promptTokens`. Prompts under 256
  /// bytes are ignored, since there the template's own tokens weigh most.
  package mutating func observe(bytes: Int, promptTokens: Int) {
    guard bytes >= 256, promptTokens > 0 else { return }
    let ratio = Double(promptTokens) * Double(PromptBlocks.tokenBytes) / Double(bytes)
    let bounded = min(max(ratio, 0.1), 4)
    observations = min(observations + 1, 32)
    factor += (bounded - factor) / Double(observations)
  }
}
