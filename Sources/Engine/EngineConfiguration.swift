// The simulated engine's knobs, under the names and defaults of Dynamo's mocker.

internal import Base

/// Which running request gives its blocks back when the cache is full.
package enum PreemptionMode: String, Sendable, CaseIterable {
  /// The request that was admitted last.
  case lifo
  /// The request that was admitted first.
  case fifo
}

/// What the simulated engine pretends to be: its cache, its batch limits and its speed.
package struct EngineConfiguration: Sendable {
  /// Tokens in one block of the cache (`--block-size`).
  package var blockSize = 16
  /// Blocks that the cache holds (`--num-gpu-blocks-override`).
  package var blockCount = 16_384
  /// Requests that may be in the batch at once (`--max-num-seqs`).
  package var sequencesMax = 256
  /// Tokens that one step may compute (`--max-num-batched-tokens`).
  package var batchedTokensMax = 8_192
  /// Whether blocks of earlier requests are reused (`--enable-prefix-caching`).
  package var prefixCaching = true
  /// Whether a prompt may be computed in several steps (`--enable-chunked-prefill`).
  package var chunkedPrefill = true
  /// Divides every step's time; 0 means that steps take no time (`--speedup-ratio`).
  package var speedupRatio = 1.0
  /// Divides the decode part of a step's time once more; 0 means none (`--decode-speedup-ratio`).
  package var decodeSpeedupRatio = 1.0
  /// Bytes of the cache entries of one token (`--kv-bytes-per-token`): those of an 8B model with grouped heads.
  package var bytesPerToken = 131_072
  /// How fast blocks come from another engine, in GB/s (`--kv-transfer-bandwidth`); 0 takes no time.
  package var transferBandwidth = 64.0
  /// Prompt and output tokens of one request; nil means what the cache can hold (`--max-model-len`).
  package var modelTokensMax: Int?
  /// Who is preempted (`--preemption-mode`).
  package var preemption = PreemptionMode.lifo
  /// Share of the blocks that admission leaves free, so that the batch does not preempt at once.
  package var watermark = 0.01
  /// Requests that may wait for a place in the batch; more are refused.
  package var waitingMax = 1_024
  /// Prompt tokens that may wait for a place in the batch; more are refused. Bounds memory and patience alike.
  package var waitingTokensMax = 8 << 20
  /// Fixes the text: engines with the same seed answer the same prompt alike.
  package var seed: UInt64 = 42

  /// Length of a model of which nothing is said.
  package static let usualModelTokens = 131_072

  /// The mocker's defaults and a model's length, which bounds what one request may ask for.
  package static var usual: EngineConfiguration {
    var usual = EngineConfiguration()
    usual.modelTokensMax = usualModelTokens
    return usual
  }

  /// Creates the mocker's defaults.
  package init() {}

  /// Tokens that one request may have: the model's length, and never more than the cache can hold.
  package var contextTokens: Int { min(modelTokensMax ?? Int.max, blockSize * blockCount) }

  /// Every fault, in words that name the flag; empty when the configuration can be used.
  package func faults() -> [String] {
    var faults: [String] = []
    func check(_ holds: Bool, _ message: String) { if !holds { faults.append(message) } }
    check((1...4_096).contains(blockSize), "--block-size must be from 1 to 4096")
    check((1...(1 << 24)).contains(blockCount), "--num-gpu-blocks-override must be from 1 to 16777216")
    check((1...65_536).contains(sequencesMax), "--max-num-seqs must be from 1 to 65536")
    check(
      (1...(1 << 24)).contains(batchedTokensMax), "--max-num-batched-tokens must be from 1 to 16777216")
    check(speedupRatio.isFinite && speedupRatio >= 0, "--speedup-ratio must be 0 or more")
    check(
      decodeSpeedupRatio.isFinite && decodeSpeedupRatio >= 0, "--decode-speedup-ratio must be 0 or more")
    check((1...(1 << 30)).contains(bytesPerToken), "--kv-bytes-per-token must be from 1 to 1073741824")
    check(
      transferBandwidth.isFinite && transferBandwidth >= 0, "--kv-transfer-bandwidth must be 0 or more")
    check((modelTokensMax ?? 2) >= 2, "--max-model-len must be at least 2")
    check(blockSize * blockCount >= 2, "the cache must hold at least two tokens")
    check((0.0..<1.0).contains(watermark), "the watermark must be from 0 to below 1")
    check(waitingMax >= 1 && waitingTokensMax >= 1, "the waiting queue must hold at least one request")
    return faults
  }
}
