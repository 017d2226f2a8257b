// Limits by the minute and of requests in progress, at instants that the tests choose; names and salts of tenants.

import Base
import Testing

@testable import Tenants

struct RateLimitTests {
  @Test(arguments: [1, 3, 7, 49, 60, 600, 1_000_003])
  func aMinutesWorthFitsIntoAMinuteAndNoMore(_ perMinute: Int) {
    let limit = RateLimit(perMinute: perMinute)
    let meter = RateMeter()
    let now = 5 * second
    let singles = min(perMinute, 700)
    for taken in 0..<singles {
      #expect(limit.remaining(in: meter, now: now) == perMinute - taken)
      #expect(limit.take(1, of: meter, now: now))
    }
    if singles < perMinute { #expect(limit.take(perMinute - singles, of: meter, now: now)) }
    #expect(!limit.take(1, of: meter, now: now) && limit.remaining(in: meter, now: now) == 0)
    let wait = limit.wait(for: 1, of: meter, now: now)
    #expect(wait > 0 && wait <= 60 * second / UInt64(perMinute) + 1)
    #expect(limit.take(1, of: meter, now: now + wait))
  }

  @Test func growsBackSteadily() {
    let limit = RateLimit(perMinute: 60)
    let meter = RateMeter()
    #expect(limit.take(60, of: meter, now: 100 * second))
    #expect(limit.reset(of: meter, now: 100 * second) == 60 * second)
    #expect(limit.remaining(in: meter, now: 110 * second) == 10)
    #expect(limit.remaining(in: meter, now: 500 * second) == 60)
    #expect(limit.reset(of: meter, now: 500 * second) == 0)
  }

  @Test func whatIsUsedUnforeseenIsPaidBackAndRefundsCount() throws {
    let limit = RateLimit(perMinute: 600)
    let meter = RateMeter()
    limit.charge(1_200, to: meter, now: second)
    #expect(limit.remaining(in: meter, now: second) == 0)
    #expect(limit.wait(for: 1, of: meter, now: second) > 59 * second)
    let refunded = RateMeter()
    let end = try #require(limit.reserve(600, of: refunded, now: second))
    limit.refund(300, to: refunded, reservedUntil: end, now: second)
    #expect(limit.remaining(in: refunded, now: second) == 300)
    // A refund never gives more than the whole.
    limit.refund(9_000, to: refunded, reservedUntil: end, now: second)
    #expect(limit.remaining(in: refunded, now: second) == 600)
  }

  /// What has grown back is nobody's any more: given back once again it would be what others took since.
  @Test func aRefundGivesBackNothingOfWhatOthersTook() throws {
    let limit = RateLimit(perMinute: 60)
    let meter = RateMeter()
    let end = try #require(limit.reserve(30, of: meter, now: 100 * second))
    #expect(limit.take(60, of: meter, now: 200 * second))
    limit.refund(30, to: meter, reservedUntil: end, now: 200 * second)
    #expect(limit.remaining(in: meter, now: 200 * second) == 0)
    // Half of it has: the other half comes back.
    let half = try #require(limit.reserve(30, of: meter, now: 300 * second))
    #expect(limit.take(20, of: meter, now: 315 * second))
    limit.refund(30, to: meter, reservedUntil: half, now: 315 * second)
    #expect(limit.remaining(in: meter, now: 315 * second) == 40)
    // Behind others' tokens none has.
    let busy = RateMeter()
    #expect(limit.take(30, of: busy, now: 400 * second))
    let last = try #require(limit.reserve(20, of: busy, now: 400 * second))
    limit.refund(20, to: busy, reservedUntil: last, now: 420 * second)
    #expect(limit.remaining(in: busy, now: 420 * second) == 50)
  }

  @Test func aDebtIsBounded() {
    let limit = RateLimit(perMinute: 1)
    let meter = RateMeter()
    for _ in 0..<3 { limit.charge(Int.max, to: meter, now: second) }
    #expect(limit.reset(of: meter, now: second) == 600 * second)
    #expect(limit.take(1, of: meter, now: 602 * second))
  }

  @Test func moreThanThereEverIsIsWaitedForAsTheWhole() {
    let limit = RateLimit(perMinute: 10)
    let meter = RateMeter()
    #expect(!limit.take(11, of: meter, now: second))
    #expect(limit.wait(for: 11, of: meter, now: second) == 0)
    #expect(limit.remaining(in: meter, now: second) == 10)
  }
}

struct APIKeyTests {
  private func key(_ change: (inout APIKeyEntry) -> Void) -> APIKey {
    var entry = APIKeyEntry(name: "k", digest: digest("k"))
    change(&entry)
    return KeyRing([entry]).keys[0]
  }

  private func refusal(_ body: () throws(LimitReached) -> Void) -> LimitReached? {
    do throws(LimitReached) {
      try body()
      return nil
    } catch {
      return error
    }
  }

  @Test func aKeyWithoutLimitsHasNone() throws {
    let key = key { _ in }
    for _ in 0..<1_000 { try key.enter(now: second) }
    try key.takeTokens(.max, now: second)
    var fields = ByteBuffer()
    key.appendFields(to: &fields, now: second)
    #expect(fields.text == "")
  }

  @Test func concurrencyIsGivenBack() throws {
    let key = key { $0.concurrentMax = 2 }
    try key.enter(now: second)
    try key.enter(now: second)
    #expect(refusal { () throws(LimitReached) in try key.enter(now: second) }?.limit == .concurrency)
    key.leave()
    try key.enter(now: second)
  }

  /// A refused request holds no place and uses nothing.
  @Test func aRefusalCostsNothing() throws {
    let key = key {
      $0.concurrentMax = 1
      $0.requests = RateLimit(perMinute: 2)
    }
    try key.enter(now: second)
    for _ in 0..<10 {
      #expect(refusal { () throws(LimitReached) in try key.enter(now: second) }?.limit == .concurrency)
    }
    key.leave()
    try key.enter(now: second)
    key.leave()
    #expect(
      refusal { () throws(LimitReached) in try key.enter(now: second) }
        == LimitReached(.requests, after: 30 * second))
    try key.enter(now: 31 * second)
  }

  @Test func tokensAreTakenAndSettled() throws {
    let key = key { $0.tokens = RateLimit(perMinute: 1_000) }
    try key.enter(now: second)
    try key.takeTokens(600, now: second)
    #expect(refusal { () throws(LimitReached) in try key.takeTokens(600, now: second) }?.limit == .tokens)
    key.settleTokens(500, takenUntil: second, now: second)
    // In debt nobody is let in, before any body is read.
    let refused = refusal { () throws(LimitReached) in try key.enter(now: second) }
    #expect(refused?.limit == .tokens && refused?.retryAfterSeconds == 7)
    try key.enter(now: 8 * second)
  }

  @Test func fieldsAreOpenAIs() throws {
    let key = key {
      $0.requests = RateLimit(perMinute: 120)
      $0.tokens = RateLimit(perMinute: 60_000)
    }
    try key.enter(now: second)
    try key.takeTokens(45_020, now: second)
    var fields = ByteBuffer()
    key.appendFields(to: &fields, now: second)
    #expect(
      fields.text == """
        x-ratelimit-limit-requests: 120\r\nx-ratelimit-remaining-requests: 119\r\n\
        x-ratelimit-reset-requests: 500ms\r\nx-ratelimit-limit-tokens: 60000\r\n\
        x-ratelimit-remaining-tokens: 14980\r\nx-ratelimit-reset-tokens: 46s\r\n
        """)
  }

  @Test(arguments: [
    (UInt64(0), "0ms"), (1, "1ms"), (20 * millisecond, "20ms"), (second - 1, "1s"), (second, "1s"),
    (60 * second, "1m0s"), (379 * second, "6m19s"),
  ])
  func timesAreOpenAIs(_ length: Nanoseconds, _ expected: String) {
    var text = ByteBuffer()
    text.append(span: length)
    #expect(text.text == expected)
  }
}

struct TenantNameTests {
  @Test(arguments: ["a", "Acme-1.eu_west", String(repeating: "x", count: 64)])
  func fit(_ name: String) { #expect(bytes(name, TenantName.isFit)) }

  @Test(arguments: ["", "a b", "a:b", "a\"", "é", "a/b", String(repeating: "x", count: 65)])
  func unfit(_ name: String) { #expect(!bytes(name, TenantName.isFit)) }

  @Test func noCallerReachesAnothersSalt() {
    func salt(_ tenant: String, _ own: String) -> String {
      String(decoding: bytes(own) { TenantName.salt(Array(tenant.utf8), own: $0) }, as: UTF8.self)
    }
    #expect(salt("acme", "") == "acme:" && salt("acme", "mine") == "acme:mine")
    var seen: Set<String> = []
    for tenant in ["a", "ab", "b"] {
      for own in ["", "a", "ab", "b", ":", "a:", ":b", "b:a"] {
        #expect(seen.insert(salt(tenant, own)).inserted)
      }
    }
  }

  /// SGLang joins the salt and the caller's `extra_key` with nothing between them.
  @Test(arguments: ["", "mine"])
  func noExtraKeyBehindTheSaltReachesATenantOfALongerName(_ own: String) {
    let short = bytes(own) { TenantName.salt(Array("acme".utf8), own: $0) }
    let long = bytes("") { TenantName.salt(Array("acme-eu".utf8), own: $0) }
    #expect(!long.starts(with: short))
  }
}
