// The four workloads that DESIGN section 9 sets budgets for, and any other that flags describe.

import Base

/// What the callers ask for and what the fake worker does with it.
struct Workload: Equatable {
  /// Callers that each wait for their answer before they ask again.
  var connections: Int
  var stream: Bool
  /// Tokens of each answer (`max_tokens`).
  var tokens: Int
  /// Words of each prompt; a word takes 4 bytes with its blank.
  var promptWords: Int
  /// Number of groups whose prompts share their beginning; 0 makes every prompt its own.
  var prefixGroups: Int
  /// Worker: time before the first token.
  var firstTokenMilliseconds: Int
  /// Worker: time between tokens.
  var tokenGapMilliseconds: Int

  /// Share of a prompt's words that its group has in common.
  static let sharedShare = 0.9
}

/// Names of the budgeted workloads.
enum Preset: String, CaseIterable {
  /// Short answers, not streamed.
  case a
  /// Streams as fast as they come.
  case b
  /// Streams with a wake-up for each token: the honest price of a token.
  case c
  /// Long prompts that share prefixes.
  case d

  var workload: Workload {
    switch self {
    case .a:
      Workload(
        connections: 32, stream: false, tokens: 16, promptWords: 24, prefixGroups: 0,
        firstTokenMilliseconds: 0, tokenGapMilliseconds: 0)
    case .b:
      Workload(
        connections: 64, stream: true, tokens: 128, promptWords: 24, prefixGroups: 0,
        firstTokenMilliseconds: 0, tokenGapMilliseconds: 0)
    case .c:
      Workload(
        connections: 256, stream: true, tokens: 128, promptWords: 24, prefixGroups: 0,
        firstTokenMilliseconds: 20, tokenGapMilliseconds: 10)
    case .d:
      Workload(
        connections: 16, stream: true, tokens: 16, promptWords: 8_000, prefixGroups: 16,
        firstTokenMilliseconds: 0, tokenGapMilliseconds: 0)
    }
  }
}
