// Settings of what may come between a request and a worker: the queue for room, and sessions.

import Base

extension SettingsTable {
  static let frontendQueue: [SettingDefinition] = [
    SettingDefinition(
      "router-queue-threshold", "DYN_ROUTER_QUEUE_THRESHOLD", .number(0...1_000),
      unset: "requests never wait",
      group: "Router",
      "Requests wait while every worker has more prompt tokens to do than this share of what it takes at once."
    ),
    SettingDefinition(
      "router-queue-policy", "DYN_ROUTER_QUEUE_POLICY", .choice(["fcfs", "wspt"]), fallback: "fcfs",
      group: "Router",
      "Who leaves the queue first: the earliest, or the shortest prefill; each by priority."),
    SettingDefinition(
      nil, "DYN_ROUTER_QUEUE_REQUESTS_PER_WORKER", .integer(1...65_536), fallback: "256", group: "Router",
      "Requests that may wait for each worker; past it 529."),
    SettingDefinition(
      nil, "DYN_ROUTER_QUEUE_TOKENS", .integer(1...Int.max), fallback: "16777216", group: "Router",
      "Prompt tokens of all waiting requests of one model; past it 529."),
    SettingDefinition(
      nil, "DYN_ROUTER_QUEUE_TIMEOUT_SECS", .duration(unit: second), fallback: "60", group: "Router",
      live: true,
      "Longest time that a request waits for room; past it 529. 0 for as long as its caller does."),
    SettingDefinition(
      nil, "DYN_ROUTER_QUEUE_NEWEST_FIRST_SECS", .duration(unit: second), fallback: "5", group: "Router",
      """
      Once the oldest request has waited for this long the newest goes first, until none has: under overload some are \
      then served in time instead of none. 0 keeps the order.
      """),
    SettingDefinition(
      "router-conditional-disagg", "DYN_ROUTER_CONDITIONAL_DISAGG", .boolean, fallback: "false",
      group: "Router",
      "Prompts of which little is missing where they are answered are read there, not by a prefill worker."),
    SettingDefinition(
      "router-conditional-disagg-config", "DYN_ROUTER_CONDITIONAL_DISAGG_CONFIG", .string,
      unset: "2048 tokens and 0.7 of the prompt", placeholder: "JSON", group: "Router",
      """
      How little: {"eff_isl_threshold": TOKENS, "eff_isl_ratio_threshold": SHARE}; both must hold.
      """),
    SettingDefinition(
      "router-session-affinity-mode", "DYN_ROUTER_SESSION_AFFINITY_MODE", .choice(["hard", "soft", "off"]),
      fallback: "soft", group: "Router", live: true,
      "Whether requests of one x-dynamo-session-id must go to one worker, prefer it, or neither."),
    SettingDefinition(
      "router-session-affinity-ttl-secs", "DYN_ROUTER_SESSION_AFFINITY_TTL_SECS", .duration(unit: second),
      fallback: "600", group: "Router", "Life of a session without requests."),
    SettingDefinition(
      nil, "DYN_ROUTER_SESSION_LIMIT", .integer(1...16_777_216), fallback: "65536", group: "Router",
      "Sessions of one model; past it the one that was quiet for longest is forgotten."),
  ]
}
