// The beginning of a frontend that takes another one's place: it gets ready beside it, and then takes over.

internal import Base
internal import EventLoop

/// Waits until this process can answer requests, then has the other one stop. Confined to the first loop.
final class Succession: TimerHandler {
  /// How long workers may take to become as many as the other process has. Then those that are ready must do; without
  /// any, this process gives up and leaves the other one in its place.
  static let patience = 30 * second

  private let takeover: Takeover
  private let loop: EventLoop
  private let readiness: () -> HandoverReadiness
  private let done: (Takeover.Failure?) -> Void
  private let timer = Timer()
  private let deadline: Nanoseconds

  /// - Parameter done: called once; with a failure the other process serves on.
  init(
    _ takeover: Takeover, loop: EventLoop, readiness: @escaping () -> HandoverReadiness,
    done: @escaping (Takeover.Failure?) -> Void
  ) {
    self.takeover = takeover
    self.loop = loop
    self.readiness = readiness
    self.done = done
    deadline = loop.now + Self.patience
  }

  func begin() { loop.arm(timer, at: loop.now, self) }

  /// Leaves the other process in its place; `done` is not called. Harmless afterwards.
  func cancel() { loop.cancel(timer) }

  func timerFired(_ timer: Timer) {
    let readiness = readiness()
    guard readiness.covers(takeover.other) || loop.now >= deadline && readiness.isReady else {
      guard loop.now < deadline else {
        done(Takeover.Failure(description: "no worker became ready, and the process before has some"))
        return
      }
      loop.arm(timer, at: loop.now + 10 * millisecond, self)
      return
    }
    do throws(Takeover.Failure) {
      try takeover.take()
      done(nil)
    } catch {
      done(error)
    }
  }
}
