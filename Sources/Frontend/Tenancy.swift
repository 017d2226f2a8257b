// Tenants: who a caller is, what its key allows, and how its prompts are kept apart from others'.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Tenants
internal import Workers

/// Whom a request belongs to, and what it holds of its key's limits. Without keys and without `x-tenant-id` there is
/// none, and a request pays one look at a reference for it.
final class Tenancy {
  /// The key that was presented; nil where `x-tenant-id` alone says who it is.
  let key: APIKey?
  /// The tenant's name.
  let name: [UInt8]
  let metrics: TenantMetrics?
  /// Prompt tokens that were taken of the key's limit before a worker had the request.
  fileprivate var tokensTaken = 0
  /// When these will have grown back.
  fileprivate var takenUntil: Nanoseconds = 0
  /// It was admitted, and has not left.
  fileprivate var isInside = false

  init(key: APIKey?, name: [UInt8], metrics: TenantMetrics?) {
    self.key = key
    self.name = name
    self.metrics = metrics
  }

  /// The models that it may ask; nil for all.
  var models: Set<String>? { key?.entry.models }

  /// A call that takes no tokens is over, and so is all work on it: its place is free.
  func leaveCall() {
    guard isInside else { return }
    isInside = false
    key?.leave()
  }

  /// A tenant's sessions are its own, whatever they are called.
  var sessionSeed: UInt64 { name.withUnsafeBytes { XXH3.hash($0, seed: 1) } }
}

extension FrontendLoop {
  /// The key that a request presents; nil where none is asked for. Throws 401.
  func authenticate(_ fields: HeaderFields) throws(APIError) -> APIKey? {
    guard let keys = configuration.keys else { return nil }
    var secret: UnsafeRawBufferPointer?
    // Twice the same field could be read one way here and another way elsewhere.
    if let value = fields.first(.authorization), let bearer = KeyRing.bearer(value) {
      secret = fields.count(of: .authorization) == 1 ? bearer : UnsafeRawBufferPointer(start: nil, count: 0)
    } else if let value = fields.first(.xAPIKey) {
      secret = fields.count(of: .xAPIKey) == 1 ? value : UnsafeRawBufferPointer(start: nil, count: 0)
    }
    guard let secret else {
      shared.metrics.notAuthenticated("missing")
      throw .invalidAPIKey(isMissing: true)
    }
    guard let key = keys.find(secret) else {
      shared.metrics.notAuthenticated("invalid")
      throw .invalidAPIKey(isMissing: false)
    }
    return key
  }

  /// Authenticates and names the tenant; nil where there is none. Throws 400 and 401.
  func tenancy(_ fields: HeaderFields) throws(APIError) -> Tenancy? {
    guard configuration.keys != nil || fields.contains(.xTenantID) else { return nil }
    let key = try authenticate(fields)
    let metrics = key.map { tenantMetrics(of: $0) }
    if let key, !key.entry.mayNameTenant || !fields.contains(.xTenantID) {
      return Tenancy(key: key, name: Array(key.entry.tenant.utf8), metrics: metrics)
    }
    guard let name = fields.first(.xTenantID), fields.count(of: .xTenantID) == 1, TenantName.isFit(name)
    else {
      throw .invalidValue(
        "x-tenant-id", reason: "it must be, once, up to 64 letters, digits, '.', '_' and '-'")
    }
    return Tenancy(key: key, name: Array(name), metrics: metrics)
  }

  /// Admits a call that takes work and no tokens, by its key's limits: ``Tenancy/leaveCall()`` ends it. Throws 429.
  func enterCall(_ tenancy: Tenancy?) throws(APIError) {
    guard let tenancy, let key = tenancy.key else { return }
    do throws(LimitReached) {
      try key.enterCall(now: loop.now)
      tenancy.isInside = true
    } catch {
      throw limited(error, key)
    }
  }

  /// The error of a limit that is reached; counts it.
  func limited(_ reached: LimitReached, _ key: APIKey) -> APIError {
    tenantMetrics(of: key).limited(reached.limit)
    let what =
      switch reached.limit {
      case .requests: "requests per minute"
      case .tokens: "tokens per minute"
      case .concurrency: "requests in progress at once"
      }
    return .rateLimited(what, retryAfterSeconds: reached.retryAfterSeconds)
  }
}

extension InferenceExchange {
  /// Learns whose request it is, and takes its place among those of its key; false when it was refused.
  func admitTenant(_ fields: HeaderFields) -> Bool {
    do throws(APIError) {
      tenancy = try service.tenancy(fields)
    } catch {
      refuse(error)
      return false
    }
    guard let tenancy, let key = tenancy.key else { return true }
    tenancy.metrics?.requests.add()
    do throws(LimitReached) {
      try key.enter(now: loop.now)
      tenancy.isInside = true
      return true
    } catch {
      refuse(service.limited(error, key))
      return false
    }
  }

  /// What only the body can show to be refused to a tenant; nil when nothing is.
  func refusalForTenant(_ request: InferenceRequest) -> APIError? {
    guard let tenancy else { return nil }
    if request.extensions?.hints.namesSalt ?? false {
      return .invalidValue(
        "nvext.cache_salt", reason: "requests of tenants are kept apart here; use 'cache_salt'")
    }
    if request.previousResponse != nil {
      return .invalidValue(
        "previous_response_id",
        reason: "whose response it is cannot be told here; send the conversation in 'input'")
    }
    guard let models = tenancy.models else { return nil }
    let name = request.modelName(in: body.readable)
    return models.contains(name) ? nil : .modelNotFound(name)
  }

  /// Takes the prompt's tokens of the key's limit; false when the request was refused.
  func takePromptTokens() -> Bool {
    guard let tenancy, let key = tenancy.key else { return true }
    let count = prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes)
    do throws(LimitReached) {
      tenancy.takenUntil = try key.takeTokens(count, now: loop.now)
      tenancy.tokensTaken = count
      return true
    } catch {
      if let limit = key.entry.tokens, count > limit.perMinute {
        refuse(.rateLimited("a prompt of about \(count) tokens", retryAfterSeconds: 60))
      } else {
        refuse(service.limited(error, key))
      }
      return false
    }
  }

  /// The request is over: its place is free, and the tokens that it used are counted instead of those it was taken for.
  func settleTenant() {
    guard let tenancy, let key = tenancy.key, tenancy.isInside else { return }
    tenancy.isInside = false
    key.leave()
    // What never came to a worker used nothing; where the engine does not say, the estimate stands.
    let input = attempt == nil ? 0 : usage?.promptTokens ?? tenancy.tokensTaken
    let output = outputTokens ?? 0
    key.settleTokens(
      input + output - tenancy.tokensTaken, takenUntil: tenancy.takenUntil, now: loop.now)
    tenancy.metrics?.inputTokens.add(input)
    tenancy.metrics?.outputTokens.add(output)
  }

  // MARK: The body that the worker gets

  /// What takes the place of `cache_salt` in the body for `worker`; nil where it goes as it came.
  func saltEdit(for worker: ReadyWorker) -> SaltEdit? {
    guard let tenancy, let request, worker.facts.engine.takesCacheSalt else { return nil }
    let own = request.fields.cacheSalt.map { body.readable.slice($0) }
    let salt = TenantName.salt(tenancy.name, own: own ?? UnsafeRawBufferPointer(start: nil, count: 0))
    guard let range = request.fields.cacheSaltValue else {
      let end = request.fields.closingBrace
      return SaltEdit(range: end..<end, replacement: Array(",\"cache_salt\":\"".utf8) + salt + [Self.quote])
    }
    return SaltEdit(range: range, replacement: [Self.quote] + salt + [Self.quote])
  }

  private static let quote = UInt8(ascii: "\"")
}

/// The edit of a body that puts a tenant's salt into it.
struct SaltEdit {
  let range: Range<Int>
  let replacement: [UInt8]

  /// How many bytes longer the edited body is.
  var growth: Int { replacement.count - range.count }

  /// Appends `body` with this edit, and with `other` where there is one. The two never overlap.
  func write(_ body: UnsafeRawBufferPointer, with other: BodyEdit?, into output: inout ByteBuffer) {
    guard let other else {
      output.append(body.slice(0..<range.lowerBound))
      output.append(replacement)
      output.append(body.slice(range.upperBound..<body.count))
      return
    }
    if other.range.lowerBound <= range.lowerBound {
      output.append(body.slice(0..<other.range.lowerBound))
      output.append(other.replacement)
      output.append(body.slice(other.range.upperBound..<range.lowerBound))
      output.append(replacement)
      output.append(body.slice(range.upperBound..<body.count))
    } else {
      output.append(body.slice(0..<range.lowerBound))
      output.append(replacement)
      output.append(body.slice(range.upperBound..<other.range.lowerBound))
      output.append(other.replacement)
      output.append(body.slice(other.range.upperBound..<body.count))
    }
  }
}
