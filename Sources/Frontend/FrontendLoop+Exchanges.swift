// What the loop answers beside inference requests that go to a worker at once.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Routing
internal import Tenants
internal import Transport
internal import Workers

extension FrontendLoop {
  func unknown(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds, hint: String = ""
  ) -> any ServerExchangeHandler {
    ErrorExchange(
      service: self, exchange: exchange, head: head, began: began,
      .notFound(method: head.methodText.text, path: head.path.text, hint: hint))
  }

  func countTokens(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    let tenancy: Tenancy?
    do throws(APIError) {
      tenancy = try self.tenancy(head.fields)
      try enterCall(tenancy)
    } catch {
      return ErrorExchange(service: self, exchange: exchange, head: head, began: began, error)
    }
    var trace = PlainTrace(head, from: exchange, began: began, on: self)
    trace.tenant = tenancy?.name ?? []
    let pooled = PooledExchange(
      service: self, exchange: exchange, tenancy: tenancy, errorFormat: .anthropic,
      trace: (trace, .countTokens))
    if let model = configuration.tokenizer { pooled.job = CountTokensJob(model: model, service: self) }
    return pooled
  }

  func explain(
    _ exchange: any ServerExchange, _ head: RequestHead, _ tenancy: Tenancy?
  ) -> any ServerExchangeHandler {
    let pooled = PooledExchange(service: self, exchange: exchange, tenancy: tenancy)
    do throws(APIError) {
      let hints = try RoutingHints.read(head.fields, sessions: configuration.sessions)
      var tenancy = tenancy
      if tenancy == nil { tenancy = try self.tenancy(head.fields) }
      if let tenancy { hints?.keepSession(of: tenancy.sessionSeed) }
      pooled.job = ExplainJob(hints: hints, tenant: tenancy?.name ?? [], service: self)
    } catch {
      pooled.refuse(error)
    }
    return pooled
  }

  // MARK: What it says of itself

  /// Whether requests can be answered: enough workers are there, and the server is not stopping. A worker that is ejected
  /// for its faults has come, and counts among those that are waited for.
  var isReady: Bool {
    !shared.isDraining && workers.hasReadyWorker
      && workers.workers.count { $0.isReady && !$0.isDraining } >= configuration.initialWorkers
  }

  /// What this process has, for one that is to take its place, or takes another's.
  var handoverReadiness: HandoverReadiness {
    HandoverReadiness(
      isReady: isReady, workers: workers.workers.count { $0.takesRequests },
      models: workers.models.count { $0.workers.contains { !$0.facts.isDraining } })
  }
}
