// Settings of what becomes of workers and requests that fail: ejection, canaries, retries.

import Base

extension SettingsTable {
  static let frontendHealth: [SettingDefinition] = [
    SettingDefinition(
      nil, "DYN_OUTLIER_CONSECUTIVE_FAILURES", .integer(0...1_000_000), fallback: "5", group: "Health",
      "Requests failed in a row by a worker (5xx, broken, silent) after which it gets none for a while; 0 for never."
    ),
    SettingDefinition(
      nil, "DYN_OUTLIER_ERROR_PERCENT", .integer(0...100), fallback: "50", group: "Health",
      "Percent of a worker's requests that must have failed within the window for the same; 0 for never."),
    SettingDefinition(
      nil, "DYN_OUTLIER_WINDOW_SECS", .duration(unit: second), fallback: "10", group: "Health",
      "The window of that percentage."),
    SettingDefinition(
      nil, "DYN_OUTLIER_MIN_REQUESTS", .integer(1...1_000_000), fallback: "20", group: "Health",
      "Requests in the window from which on the percentage counts."),
    SettingDefinition(
      nil, "DYN_OUTLIER_EJECTION_SECS", .duration(unit: second), fallback: "10", group: "Health",
      "How long a worker is left out for the first time; each further time is twice as long."),
    SettingDefinition(
      nil, "DYN_OUTLIER_EJECTION_MAX_SECS", .duration(unit: second), fallback: "300", group: "Health",
      "The longest such time."),
    SettingDefinition(
      nil, "DYN_OUTLIER_SLOW_START_SECS", .duration(unit: second), fallback: "30", group: "Health",
      "How long the share of requests grows of a worker that comes back; 0 gives it all at once."),
    SettingDefinition(
      nil, "DYN_OUTLIER_PANIC_PERCENT", .integer(0...100), fallback: "50", group: "Health",
      "While more than this percentage of a model's workers, or all of them, would be out, nobody is left out."
    ),
    SettingDefinition(
      nil, "DYN_HEALTH_CHECK_ENABLED", .boolean, fallback: "false", group: "Health",
      "Have each worker that was idle for the canary's time generate a token; one that fails is left out."),
    SettingDefinition(
      nil, "DYN_CANARY_WAIT_TIME", .duration(unit: second), fallback: "10", group: "Health",
      "How long a worker is idle before it is sent a canary, in seconds."),
    SettingDefinition(
      nil, "DYN_HEALTH_CHECK_REQUEST_TIMEOUT", .duration(unit: second), fallback: "3", group: "Health",
      "Longest time of a canary, in seconds."),
    SettingDefinition(
      nil, "DYN_HEALTH_CHECK_PAYLOAD", .string, unset: "a chat of one word, one token", placeholder: "JSON",
      group: "Health", "Body of the canary: a completion when it has a prompt, else a chat."),
    SettingDefinition(
      nil, "DYN_RETRY_LIMIT", .integer(0...16), fallback: "1", group: "Health", live: true,
      "Other workers that are asked at most when one fails before the first byte of its answer."),
    SettingDefinition(
      nil, "DYN_RETRY_BUDGET_PERCENT", .integer(0...1_000), fallback: "20", group: "Health", live: true,
      "Repeated requests in progress, as a percentage of all in progress; past it and the next setting none is repeated."
    ),
    SettingDefinition(
      nil, "DYN_RETRY_BUDGET_MIN", .integer(0...1_000_000), fallback: "32", group: "Health", live: true,
      "Repeated requests that may be in progress whatever the percentage says."),
    SettingDefinition(
      "hedge-after-ms", "DYN_HEDGE_AFTER_MS", .duration(unit: millisecond), fallback: "0", group: "Health",
      live: true,
      "Ask another worker as well when the head of an answer has not come by then; the first head wins. 0 for never."
    ),
    SettingDefinition(
      "migration-limit", "DYN_MIGRATION_LIMIT", .integer(0...64), fallback: "0", group: "Health", live: true,
      "Times that a running stream goes on at another worker when its own dies; 0 for never."),
    SettingDefinition(
      "migration-max-seq-len", "DYN_MIGRATION_MAX_SEQ_LEN", .integer(1...Int.max), unset: "no bound",
      placeholder: "TOKENS", group: "Health", live: true,
      "Tokens of prompt and answer past which a running stream does not."),
  ]
}
