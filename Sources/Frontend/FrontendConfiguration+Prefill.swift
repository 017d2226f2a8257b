// What the settings say of prompts that are read where they are answered although there are workers that prefill.

internal import Base
internal import JSON
package import Settings

extension ShortPrompts {
  /// Nil where every prompt goes to a worker that prefills, and where ``faults(_:)`` names something.
  init?(_ settings: SettingsValues) {
    guard settings.bool("router-conditional-disagg"), let read = try? Self.read(settings).get() else {
      return nil
    }
    self = read
  }

  /// Complete sentences about what the settings say wrong.
  package static func faults(_ settings: SettingsValues) -> [String] {
    guard case .failure(let fault) = read(settings) else { return [] }
    return ["\(settings.origin("router-conditional-disagg-config")): \(fault.text)"]
  }

  private struct Fault: Error { let text: String }

  /// Dynamo's policies go by load too; only the one by the prompt's length is known here.
  private static func read(_ settings: SettingsValues) -> Result<ShortPrompts, Fault> {
    var short = ShortPrompts()
    guard let text = settings.optionalString("router-conditional-disagg-config"), !text.isEmpty else {
      return .success(short)
    }
    let bytes = Array(text.utf8)
    guard let json = try? bytes.withUnsafeBytes({ try JSONValue.parse($0, valuesMax: 64) }),
      let members = json.members
    else { return .failure(Fault(text: "it is no JSON object")) }
    for member in members {
      switch member.key {
      case "policy":
        guard member.value.string == "isl_bounding" else {
          return .failure(Fault(text: "the only policy is isl_bounding"))
        }
      case "eff_isl_threshold":
        guard let tokens = member.value.integer, tokens >= 0 else {
          return .failure(Fault(text: "eff_isl_threshold must be a count of tokens"))
        }
        short.tokensMax = tokens
      case "eff_isl_ratio_threshold":
        guard let share = member.value.double, (0...1).contains(share) else {
          return .failure(Fault(text: "eff_isl_ratio_threshold must be from 0 to 1"))
        }
        short.shareMax = share
      default: return .failure(Fault(text: "it has no member '\(member.key.prefix(64))'"))
      }
    }
    return .success(short)
  }
}
