// Queries under way on the store's thread: each works for a moment in its turn, so that spans come in meanwhile.

internal import Base
internal import EventLoop
internal import HTTP
internal import Transport

/// Gives each query its turns. Loop-confined.
final class QueryTurns: TimerHandler {
  /// How long one query works in one go.
  static let sliceTime = 5 * millisecond
  /// Queries that work by turns, and so the answers that are in memory; others wait.
  static let runningMax = 4
  /// Queries that may wait; past it they are refused.
  static let waitingMax = 64

  private let loop: EventLoop
  private let status: StoreStatus
  private let timer = Timer()
  private var running: [QueryExchange] = []
  private var waiting: [QueryExchange] = []

  init(_ loop: EventLoop, status: StoreStatus) {
    self.loop = loop
    self.status = status
  }

  /// Answers `exchange` with what `scan` finds: at once where that is quick, else when its turns have come.
  func begin(_ scan: StoreScan, for exchange: any ServerExchange) -> any ServerExchangeHandler {
    let entry = QueryExchange(scan, exchange, on: self)
    if running.isEmpty, scan.step(Self.sliceTime) {
      finish(entry)
    } else if running.count < Self.runningMax {
      running.append(entry)
      loop.arm(timer, at: loop.now, self)
    } else if waiting.count < Self.waitingMax {
      waiting.append(entry)
    } else {
      status.count { $0.queriesRefused += 1 }
      var body = ByteBuffer()
      body.append("too many searches are under way\n" as StaticString)
      TextAnswer(status: 503, contentType: "text/plain; charset=utf-8", fields: "retry-after: 1\r\n")
        .send(body.readable, to: exchange)
    }
    return entry
  }

  /// The first in the row has its turn; the loop sees to everything else before the next one.
  func timerFired(_ timer: Timer) {
    guard !running.isEmpty else { return }
    let entry = running.removeFirst()
    if entry.scan.step(Self.sliceTime) {
      finish(entry)
    } else {
      running.append(entry)
    }
    fill()
  }

  /// Nobody waits for the answer any more.
  func forget(_ entry: QueryExchange) {
    running.removeAll { $0 === entry }
    waiting.removeAll { $0 === entry }
    fill()
  }

  private func fill() {
    while running.count < Self.runningMax, !waiting.isEmpty { running.append(waiting.removeFirst()) }
    if running.isEmpty { loop.cancel(timer) } else { loop.arm(timer, at: loop.now, self) }
  }

  private func finish(_ entry: QueryExchange) {
    if entry.scan.query.isCut { status.count { $0.queriesCut += 1 } }
    var body = ByteBuffer()
    entry.scan.query.write(into: &body)
    TextAnswer().send(body.readable, to: entry.exchange)
  }
}

/// A request whose answer is being looked for.
final class QueryExchange: ServerExchangeHandler {
  let scan: StoreScan
  let exchange: any ServerExchange
  private unowned let turns: QueryTurns

  init(_ scan: StoreScan, _ exchange: any ServerExchange, on turns: QueryTurns) {
    self.scan = scan
    self.exchange = exchange
    self.turns = turns
  }

  func received(body: UnsafeRawBufferPointer) {}
  func receivedEnd() {}
  func drained() {}
  func ended(_ end: EndOfStream) { turns.forget(self) }
}
