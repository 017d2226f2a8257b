// Settings of the exchange of load between several frontends of the same workers.

import Base

extension SettingsTable {
  static let frontendPeers: [SettingDefinition] = [
    SettingDefinition(
      "router-replica-sync", "DYN_ROUTER_REPLICA_SYNC", .boolean, fallback: "false", group: "Router",
      "Exchange what is booked on workers with other frontends, so that each weighs the load of all (needs libzmq)."
    ),
    SettingDefinition(
      "router-replica-sync-address", "DYN_ROUTER_REPLICA_SYNC_ADDRESS", .string, unset: "must be set with it",
      placeholder: "tcp://HOST:PORT", group: "Router",
      "Where other frontends hear this one. Whoever reaches the port reads loads; keep it in a private network."
    ),
    SettingDefinition(
      "router-replica-sync-peers", "DYN_ROUTER_REPLICA_SYNC_PEERS", .list, unset: "must be set with it",
      placeholder: "tcp://HOST:PORT", group: "Router",
      "Where the other frontends are heard. All of them may share one list: a frontend passes over its own address."
    ),
    SettingDefinition(
      nil, "DYN_ROUTER_REPLICA_SYNC_LEASE_SECS", .duration(unit: second), fallback: "5", group: "Router",
      "How long the load of another frontend counts after its last message."),
    SettingDefinition(
      nil, "DYN_ROUTER_REPLICA_SYNC_INTERVAL_MS", .duration(unit: millisecond), fallback: "10",
      group: "Router", "Between two messages about what changed."),
  ]
}
