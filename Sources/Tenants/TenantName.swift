// A tenant's name, and the cache salt that keeps its prompts' blocks apart from others'.

internal import Base

/// The rules of tenants' names, and what is made of them.
package enum TenantName {
  /// Longest name in bytes.
  package static let bytesMax = 64

  /// Stands between a tenant's name and its caller's own salt; no name has it.
  package static let separator = UInt8(ascii: ":")

  /// True for 1 to 64 letters, digits, `.`, `_` and `-`: what can stand in a header, a label and JSON as it is.
  package static func isFit(_ name: UnsafeRawBufferPointer) -> Bool {
    (1...bytesMax).contains(name.count)
      && name.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }

  /// The salt of a tenant's request: its name, and behind a colon the caller's own salt. As no name has a colon, two
  /// tenants never have the same, whatever their callers choose. The colon is always there: SGLang puts the body's
  /// `extra_key` right behind the salt, and a bare `acme` with `-eu` behind it would be the tenant `acme-eu`.
  ///
  /// - Parameter own: the caller's salt as it stands in the JSON body, escapes and all; empty for none.
  package static func salt(_ name: [UInt8], own: UnsafeRawBufferPointer) -> [UInt8] {
    name + [separator] + own
  }
}
