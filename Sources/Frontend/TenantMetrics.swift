// One tenant's metric cells on one loop. Tenants are those of the key file: no caller makes a label.

internal import Base
internal import Telemetry
internal import Tenants

/// Counts what a tenant's requests do. Loop-confined.
final class TenantMetrics {
  /// Tenants with labels of their own; those behind them share `other`.
  static let tenantsMax = 1_000

  let requests: LocalCounter
  let inputTokens: LocalCounter
  let outputTokens: LocalCounter
  private let registry: MetricRegistry
  private let label: String

  init(_ registry: MetricRegistry, tenant: String, index: Int) {
    self.registry = registry
    label = index < Self.tenantsMax ? tenant : "other"
    let labels = [("tenant", label)]
    requests = LocalCounter(registry.counter(.tenantRequests, labels: labels))
    inputTokens = LocalCounter(registry.counter(.tenantInputTokens, labels: labels))
    outputTokens = LocalCounter(registry.counter(.tenantOutputTokens, labels: labels))
  }

  func limited(_ limit: KeyLimit) {
    registry.counter(.tenantLimited, labels: [("tenant", label), ("limit", limit.rawValue)]).add()
  }
}
