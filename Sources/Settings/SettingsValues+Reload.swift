// What a new reading of the configuration file changes, and what of it may take effect while the program runs.

/// A setting with another value than before.
package struct SettingChange: Sendable, Equatable {
  /// The name by which code asks for the value.
  package let name: String
  /// The environment's name, under which the file holds it.
  package let environment: String
  package let isLive: Bool
  /// Old and new value as text, masked when they are secret, empty when unset.
  package let old: String
  package let new: String
  /// Where the new value came from.
  package let origin: SettingOrigin
}

extension SettingsValues {
  /// The settings that `new`, read against the same table, gives other values, in the table's order.
  package func changes(to new: SettingsValues) -> [SettingChange] {
    zip(order, zip(report, new.report)).compactMap { name, lines in
      let (old, line) = lines
      guard value(name) != new.value(name) else { return nil }
      return SettingChange(
        name: name, environment: old.environment, isLive: old.isLive, old: old.value, new: line.value,
        origin: new.origin(name))
    }
  }

  /// These settings with the live ones as `new` has them; all others stay as they are until the next start.
  package func adoptingLive(_ new: SettingsValues) -> SettingsValues {
    guard reloads else { return self }
    var result = self
    for (name, entry) in new.entries where entry.definition.isLive { result.entries[name] = entry }
    return result
  }
}
