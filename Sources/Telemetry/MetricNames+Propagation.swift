// Names of the metrics about what travels with requests from process to process.

extension MetricDescription {
  /// no labels
  package static let baggageMembersDropped = MetricDescription(
    "dynamo_baggage_members_dropped_total",
    "Members of callers' baggage that were malformed or too many, and were not passed on.")
}
