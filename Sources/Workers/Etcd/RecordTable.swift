// The records of a key-value store, as far as they are known: fed by pairs, told as a scan.

internal import Base

/// Instances and cards by the rest of their keys, which is the same for both.
///
/// Invariant: no more than ``recordsMax`` of each; further ones are left out, and counted until all is read anew.
struct RecordTable {
  static let recordsMax = 4_096
  static let valueBytesMax = 64 * 1024
  static let instances = "v1/instances/"
  static let cards = "v1/mdc/"

  private enum Entry<Value> {
    case good(Value)
    /// Of another making: Dynamo's word for its transport.
    case foreign(String?)
    case bad(String)
  }

  private var records: [String: Entry<DiscoveryRecord>] = [:]
  private var cards: [String: Entry<ModelCard>] = [:]
  private(set) var leftOut = 0

  mutating func put(_ key: String, _ value: [UInt8]) {
    if let place = Self.rest(key, Self.instances) {
      guard hasRoom(records[place] != nil, records.count) else { return }
      records[place] = Self.record(key, value)
    } else if let place = Self.rest(key, Self.cards) {
      guard hasRoom(cards[place] != nil, cards.count) else { return }
      cards[place] = Self.card(value)
    }
  }

  mutating func remove(_ key: String) {
    if let place = Self.rest(key, Self.instances) { records[place] = nil }
    if let place = Self.rest(key, Self.cards) { cards[place] = nil }
  }

  /// Everything that can be said of instances. One whose card is not there is about to be written, or removed.
  func scan(touched: UInt64) -> DiscoveryScan {
    var scan = DiscoveryScan()
    for (place, entry) in records.sorted(by: { $0.key < $1.key }) {
      let key = Self.instances + place
      switch entry {
      case .foreign(let transport):
        scan.foreign.append(ForeignRecord(key: key, transport: transport, touched: touched))
      case .bad(let reason): scan.unusable[key] = reason
      case .good(let record):
        switch cards[place] {
        case .good(let card):
          scan.findings.append(DiscoveryFinding(record: record, card: card, touched: touched))
        case .bad(let reason): scan.unusable[key] = reason
        case .foreign, nil: break
        }
      }
    }
    return scan
  }

  private mutating func hasRoom(_ isKnown: Bool, _ count: Int) -> Bool {
    if isKnown || count < Self.recordsMax { return true }
    leftOut += 1
    return false
  }

  private static func record(_ key: String, _ value: [UInt8]) -> Entry<DiscoveryRecord> {
    guard value.count <= valueBytesMax else { return .bad("its record is too long") }
    return value.withUnsafeBytes { raw in
      do throws(DiscoveryRecordError) {
        let record = try DiscoveryRecord.parse(raw)
        if case .foreign(let kind) = record.transport { return .foreign(kind) }
        guard record.identity.instanceKey == key else {
          return .bad("it names another instance than its key")
        }
        return .good(record)
      } catch {
        // Dynamo's own ids have more digits than are read here.
        if let transport = DiscoveryRecord.transportName(raw) { return .foreign(transport) }
        return .bad("it is no record: \(error)")
      }
    }
  }

  private static func card(_ value: [UInt8]) -> Entry<ModelCard> {
    guard value.count <= valueBytesMax else { return .bad("its model card is too long") }
    return value.withUnsafeBytes { raw in
      do throws(DiscoveryRecordError) {
        return .good(try ModelCard.parse(raw))
      } catch {
        return .bad("its model card cannot be read: \(error)")
      }
    }
  }

  /// `namespace/component/endpoint/id`; nil for other keys.
  private static func rest(_ key: String, _ prefix: String) -> String? {
    guard key.hasPrefix(prefix) else { return nil }
    let rest = String(key.dropFirst(prefix.count))
    let parts = rest.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    return parts.count == 4 && parts.allSatisfy(DiscoveryIdentity.isName) ? rest : nil
  }
}
