// A fake OpenAI-compatible worker: listeners on several ports, one loop, answers whose cost is the write itself.

import Base
import EventLoop

/// When tokens come and how many.
struct Pace: Equatable {
  var firstTokenDelay: Nanoseconds = 0
  var tokenGap: Nanoseconds = 0
  /// Tokens of an answer whose request names no limit.
  var tokens = 128
  /// One timer writes a token to every stream, as an engine's step does, instead of a timer for each stream.
  var step = false
}

/// Counters of one port, that is of one worker as the proxy sees it.
final class WorkerPort {
  let port: UInt16
  var requests = 0
  var open = 0
  var tokens = 0
  var cancelled = 0
  var badRequests = 0
  /// Requests for each prompt group, by the hash of the prompt's beginning.
  var groups: [UInt64: Int] = [:]

  init(port: UInt16) { self.port = port }

  /// Counts a prompt that is long enough to belong to a group.
  func countGroup(of body: UnsafeRawBufferPointer, _ request: RequestScan) {
    guard let messages = request.messages, body.count - messages >= FakeWorker.groupedPromptBytes else {
      return
    }
    // FNV-1a: any spread will do.
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in body.slice(messages..<(messages + FakeWorker.groupPrefixBytes)) {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }
    guard groups[hash] != nil || groups.count < FakeWorker.groupsMax else { return }
    groups[hash, default: 0] += 1
  }

  func reset() {
    requests = 0
    tokens = 0
    cancelled = 0
    badRequests = 0
    groups.removeAll(keepingCapacity: true)
  }
}

/// An answer that can take part in the step.
protocol SteppedAnswer: AnyObject {
  /// Place among the streams of the step; set by the worker.
  var stepIndex: Int? { get set }
  /// Gives one token.
  func step()
}

/// All ports of one process.
final class FakeWorker: TimerHandler {
  /// Prompts shorter than this belong to no group.
  static let groupedPromptBytes = 1_024
  /// Bytes at the start of a prompt that name its group.
  static let groupPrefixBytes = 256
  /// Groups counted for each port; requests of further groups are counted as requests only.
  static let groupsMax = 4_096

  let loop: EventLoop
  let model: String
  var pace: Pace
  private(set) var ports: [WorkerPort] = []
  private var listeners: [Listener] = []
  private var answers: UInt64 = 0
  private let stepTimer = Timer()
  private var stepping: [any SteppedAnswer] = []

  init(loop: EventLoop, model: String, pace: Pace) {
    self.loop = loop
    self.model = model
    self.pace = pace
  }

  /// Listens on `host` and `port` (0 picks one) and returns the port.
  func listen(host: String, port: UInt16) throws(SystemError) -> UInt16 {
    let (descriptor, address) = try Sockets.listen(host: host, port: port)
    let state = WorkerPort(port: address.port)
    let listener = try Listener(descriptor, loop) { [self] accepted in
      WorkerConnection(accepted, worker: self, port: state).start()
    }
    listeners.append(listener)
    ports.append(state)
    return address.port
  }

  /// A number for the next answer's id.
  func nextAnswer() -> UInt64 {
    answers += 1
    return answers
  }

  /// Lets `connection` have a token at each step until it leaves.
  func join(_ connection: any SteppedAnswer) {
    connection.stepIndex = stepping.count
    stepping.append(connection)
    if !stepTimer.isArmed { loop.arm(stepTimer, at: loop.now + max(pace.tokenGap, millisecond), self) }
  }

  /// Takes `connection` out of the step.
  func leave(_ connection: any SteppedAnswer) {
    guard let index = connection.stepIndex else { return }
    let last = stepping.removeLast()
    if last !== connection {
      stepping[index] = last
      last.stepIndex = index
    }
    connection.stepIndex = nil
  }

  func timerFired(_ timer: Timer) {
    // Backwards, because a finished stream is replaced by the last one.
    for index in stride(from: stepping.count - 1, through: 0, by: -1) where index < stepping.count {
      stepping[index].step()
    }
    guard !stepping.isEmpty else { return }
    loop.arm(timer, at: max(timer.deadline + max(pace.tokenGap, millisecond), loop.now), self)
  }
}
