// What goes into the simulated engine and what comes out of it.

package import Base

/// Why a request's text ended.
package enum FinishReason: Sendable, Equatable {
  /// The text came to its end, or to one of the request's stop strings.
  case stop
  /// The token limit of the request or of the model was reached.
  case length
}

/// Why the engine would not take a request.
package enum EngineRefusal: Error, Sendable, Equatable {
  /// As many requests, or as many prompt tokens, wait as may.
  case queueFull
  /// Prompt and at least one output token do not fit in `limit` tokens.
  case promptTooLong(tokens: Int, limit: Int)
  /// More output is asked for than prompt and output together may have.
  case outputTooLong(tokens: Int, limit: Int)
}

/// One sequence to generate.
package struct EngineRequest {
  /// The prompt's canonical bytes; only read during ``SimulatedEngine/submit(_:client:now:)``.
  package var prompt: UnsafeRawBufferPointer
  /// Tokens that another engine generated already, when this one continues its work.
  package var resumedTokens: [UInt32] = []
  /// The most output tokens, those of `resumedTokens` included. Nil: the text ends by itself after 16 to 64.
  package var outputTokensMax: Int?
  /// Texts that end the output; they are not part of it.
  package var stops: [String] = []
  /// Tells equal prompts apart: the index of a choice when several are asked for, or the caller's seed.
  package var variation: UInt64 = 0
  /// Keeps the blocks of different tenants apart; empty for none.
  package var cacheSalt = ""
  /// The prompt's first blocks, computed by another engine, which gave them these names
  /// (``EngineSequence/promptBlockNames``). They are fetched before anything is computed. From the first name on that is
  /// none of the prompt's the rest is computed here.
  package var receivedBlockNames: [Int] = []

  /// Creates a request with no limit and no stops.
  package init(prompt: UnsafeRawBufferPointer) { self.prompt = prompt }
}

/// What a sequence was and how it went.
package struct SequenceSummary: Sendable {
  package let reason: FinishReason
  package let usage: SequenceUsage
}

/// The counts and times of a sequence, at its end or when it was cancelled.
package struct SequenceUsage: Sendable {
  /// Tokens of the prompt, resumed ones included.
  package var promptTokens = 0
  /// Tokens of the prompt that the cache held when the sequence was first scheduled.
  package var cachedTokens = 0
  /// Tokens generated here.
  package var outputTokens = 0
  /// Times that the sequence lost its blocks and was computed again.
  package var preemptions = 0
  /// From submission to the first step.
  package var queueTime: Nanoseconds = 0
  /// From the first step to the first token; 0 while there is none.
  package var prefillTime: Nanoseconds = 0
  /// From the first token to the last.
  package var decodeTime: Nanoseconds = 0
}

/// Receives what a sequence produces, inside ``SimulatedEngine/advance(to:)``. It may cancel and submit there.
package protocol SequenceClient: AnyObject {
  /// One more token was generated. `text` is what may be shown because of it: often a word, nothing while a stop
  /// string may be beginning; valid during the call.
  func produced(_ text: UnsafeRawBufferPointer)
  /// The sequence ended; nothing follows.
  func finished(_ summary: SequenceSummary)
}

/// Full blocks that the cache gained, each the child of the one before it.
package struct StoredBlocks: Sendable, Equatable {
  /// The engine's hashes, which hold all that came before them.
  package var hashes: [UInt64]
  /// The hash of the block before the first; nil at a prompt's begin.
  package var parent: UInt64?
  /// The blocks' tokens, ``EngineConfiguration/blockSize`` each: of the prompt, of the output, or of both.
  package var tokens: [UInt32]
  /// The salt of the request; empty for none.
  package var salt: String
}

/// Is told of every change of the cache, in the order they happen: the seam for KV events.
///
/// The order is vLLM's: what is evicted is told before the blocks that needed the room, a prefix that was cached is not
/// told again, and all of one scheduler step comes before its ``stepScheduled()``.
package protocol BlockObserver: AnyObject {
  /// Blocks became known; all that one sequence gained in a step come together, unless the cache had one between them.
  func stored(_ blocks: StoredBlocks)
  /// The block of `hash` was evicted.
  func removed(hash: UInt64)
  /// All blocks were forgotten.
  func cleared()
  /// The step is put together: what was told since the last one belongs to it.
  func stepScheduled()
}

/// What the engine is doing, for metrics.
package struct EngineLoad: Sendable, Equatable {
  package var waiting = 0
  package var running = 0
  package var activeBlocks = 0
  package var cachedBlocks = 0
  package var totalBlocks = 0
  package var preemptions = 0
  package var refusals = 0
  /// Prompt tokens of admitted sequences, and how many of them the cache held.
  package var promptTokens = 0
  package var cachedTokens = 0
  package var steps = 0
}
