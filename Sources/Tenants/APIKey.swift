// One API key at work: what it may do, and what it has used. Shared by all loops.

package import Base
internal import Synchronization

/// What a key's line in the file says.
package struct APIKeyEntry: Sendable {
  /// What logs call the key.
  package var name: String
  package var digest: KeyDigest
  /// Whom its requests belong to; the key's name where the file says nothing else.
  package var tenant: String
  package var requests: RateLimit?
  package var tokens: RateLimit?
  /// Requests in progress at once.
  package var concurrentMax: Int?
  /// The models that it may ask; nil for all.
  package var models: Set<String>?
  /// Its caller, a gateway, may name the tenant in `x-tenant-id`.
  package var mayNameTenant = false

  package init(name: String, digest: KeyDigest, tenant: String? = nil) {
    self.name = name
    self.digest = digest
    self.tenant = tenant ?? name
  }
}

/// What a key has used; it outlives a reading of the file.
final class KeyUsage: Sendable {
  let requests = RateMeter()
  let tokens = RateMeter()
  let open = Atomic<Int>(0)
}

/// Which of a key's limits is reached.
package enum KeyLimit: String, Sendable, CaseIterable {
  case requests
  case tokens
  case concurrency
}

/// What a request is refused for, and when it may come again.
package struct LimitReached: Error, Sendable, Equatable {
  package let limit: KeyLimit
  /// Whole seconds, at least 1.
  package let retryAfterSeconds: Int

  init(_ limit: KeyLimit, after wait: Nanoseconds) {
    self.limit = limit
    retryAfterSeconds = max(1, Int((wait + second - 1) / second))
  }
}

/// One key of the file in force.
package final class APIKey: Sendable {
  package let entry: APIKeyEntry
  /// The tenant's index in ``KeyRing/tenants``.
  package let tenantIndex: Int
  let usage: KeyUsage

  init(_ entry: APIKeyEntry, tenantIndex: Int, usage: KeyUsage) {
    self.entry = entry
    self.tenantIndex = tenantIndex
    self.usage = usage
  }

  /// Admits one more request, which must ``leave()`` once.
  ///
  /// A request is refused as well while the tokens of those before it are not paid for: how many it has itself is known
  /// only when its body is read.
  package func enter(now: Nanoseconds) throws(LimitReached) {
    try admit { () throws(LimitReached) in
      if let tokens = entry.tokens, tokens.remaining(in: usage.tokens, now: now) == 0 {
        throw LimitReached(.tokens, after: tokens.wait(for: 1, of: usage.tokens, now: now))
      }
      try takeRequest(now: now)
    }
  }

  /// Admits a request that has no tokens, and must ``leave()`` once as well.
  package func enterCall(now: Nanoseconds) throws(LimitReached) {
    try admit { () throws(LimitReached) in try takeRequest(now: now) }
  }

  /// Takes one of the places, and gives it back when `check` refuses.
  private func admit(_ check: () throws(LimitReached) -> Void) throws(LimitReached) {
    if let most = entry.concurrentMax {
      let before = usage.open.add(1, ordering: .relaxed).oldValue
      guard before < most else {
        leave()
        throw LimitReached(.concurrency, after: second)
      }
    }
    do throws(LimitReached) {
      try check()
    } catch {
      leave()
      throw error
    }
  }

  private func takeRequest(now: Nanoseconds) throws(LimitReached) {
    guard let requests = entry.requests, !requests.take(1, of: usage.requests, now: now) else { return }
    throw LimitReached(.requests, after: requests.wait(for: 1, of: usage.requests, now: now))
  }

  /// A request that was admitted is over.
  package func leave() {
    if entry.concurrentMax != nil { usage.open.subtract(1, ordering: .relaxed) }
  }

  /// Takes a prompt's tokens before it is sent to a worker; returns when they will have grown back.
  @discardableResult
  package func takeTokens(_ count: Int, now: Nanoseconds) throws(LimitReached) -> Nanoseconds {
    guard let tokens = entry.tokens else { return now }
    if let end = tokens.reserve(count, of: usage.tokens, now: now) { return end }
    throw LimitReached(.tokens, after: tokens.wait(for: count, of: usage.tokens, now: now))
  }

  /// Settles what a request has used beyond what was taken for it; negative gives back what has not grown back at `now`,
  /// where `end` is what ``takeTokens(_:now:)`` returned.
  package func settleTokens(_ count: Int, takenUntil end: Nanoseconds, now: Nanoseconds) {
    guard let tokens = entry.tokens else { return }
    if count < 0 {
      tokens.refund(-count, to: usage.tokens, reservedUntil: end, now: now)
    } else {
      tokens.charge(count, to: usage.tokens, now: now)
    }
  }

  /// Appends the `x-ratelimit-*` fields that OpenAI's API sends, of the limits that the key has.
  package func appendFields(to fields: inout ByteBuffer, now: Nanoseconds) {
    func append(_ limit: RateLimit?, _ meter: RateMeter, _ name: StaticString) {
      guard let limit else { return }
      fields.append("x-ratelimit-limit-" as StaticString, name, limit.perMinute)
      fields.append("x-ratelimit-remaining-" as StaticString, name, limit.remaining(in: meter, now: now))
      fields.append("x-ratelimit-reset-" as StaticString)
      fields.append(name)
      fields.append(": " as StaticString)
      fields.append(span: limit.reset(of: meter, now: now))
      fields.append("\r\n" as StaticString)
    }
    append(entry.requests, usage.requests, "requests")
    append(entry.tokens, usage.tokens, "tokens")
  }
}

extension ByteBuffer {
  fileprivate mutating func append(_ prefix: StaticString, _ name: StaticString, _ value: Int) {
    append(prefix)
    append(name)
    append(": " as StaticString)
    append(decimal: value)
    append("\r\n" as StaticString)
  }

  /// Appends a length of time as OpenAI writes it: `6m0s`, `1s`, `20ms`; rounded up.
  mutating func append(span length: Nanoseconds) {
    let milliseconds = Int((length + millisecond - 1) / millisecond)
    if milliseconds < 1_000 {
      append(decimal: milliseconds)
      return append("ms" as StaticString)
    }
    let seconds = (milliseconds + 999) / 1_000
    if seconds >= 60 {
      append(decimal: seconds / 60)
      append(UInt8(ascii: "m"))
    }
    append(decimal: seconds % 60)
    append(UInt8(ascii: "s"))
  }
}
