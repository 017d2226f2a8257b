// Registered workers that are not used here, and why: for those who look for a worker and do not find it.

/// One registered instance that no request goes to.
package struct UnusedRecord: Sendable, Equatable {
  /// Its key in the discovery's store.
  package let key: String
  package let reason: String
}

/// Those of a snapshot, in order of their keys.
package struct UnusedRecords: Sendable, Equatable {
  /// Records shown; further ones are counted.
  package static let shownMax = 256

  package private(set) var shown: [UnusedRecord] = []
  package private(set) var count = 0

  package init() {}

  init(_ reasons: [String: String]) {
    count = reasons.count
    shown = reasons.sorted { $0.key < $1.key }.prefix(Self.shownMax).map {
      UnusedRecord(key: $0.key, reason: $0.value)
    }
  }
}
