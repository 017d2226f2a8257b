// Handing the listening sockets over to the process that comes next: both sides of it.
//
// They talk over a Unix socket that keeps the borders of messages:
//
//   next                                 this
//     │ ── connects ───────────────────▶ │  only a process of the same user or root's, each way, and one at a time
//     │ ◀── version, state, purposes ─── │  with the descriptors beside them
//     │     … gets its workers ready …   │  serves on
//     │ ── "take" ─────────────────────▶ │  serves on
//     │ ◀── "taken" ──────────────────── │
//     │     … accepts …                  │  serves on: for this moment both do
//     │ ── "serving" ──────────────────▶ │  stops accepting, and drains
//     │ ◀── closes ───────────────────── │  the path is the next process's
//
// Until "serving" nothing changes for this process: whatever becomes of the next one, it serves on. The files of Unix
// sockets are the next one's to remove from "taken" on.

internal import Base
package import EventLoop
internal import Logging

private let greeting = "dynamo-frontend handover 1"
/// Stands behind the purpose of a Unix socket whose file goes with it.
private let ownership = "with-file"

/// The side of the process that serves: offers its sockets to whoever connects. Loop-confined.
final class HandoverHost: EventHandler {
  private let listener: Listener
  private let loop: EventLoop
  private let listeners: [Listener]
  private let readiness: () -> HandoverReadiness
  private let taken: () -> Void
  private let logger: Logger
  private var registration: Registration?
  /// The process that asked; another one is refused meanwhile.
  private var offer: HandoverOffer?

  /// - Parameters:
  ///   - readiness: what this process has to answer requests with now.
  ///   - taken: called once, when the next process serves on the sockets.
  init(
    path: String, loop: EventLoop, listeners: [Listener], logger: Logger,
    readiness: @escaping () -> HandoverReadiness,
    taken: @escaping () -> Void
  ) throws(SystemError) {
    listener = try Listener.bindMessages(path: path)
    self.loop = loop
    self.listeners = listeners
    self.readiness = readiness
    self.taken = taken
    self.logger = logger
    registration = try loop.registerShared(listener.descriptor, self)
  }

  func ready(_ readiness: Readiness) {
    let accepted = loop.system.accept(listener.descriptor)
    guard accepted >= 0 else { return }
    let channel = DescriptorChannel(adopting: accepted)
    guard channel.peerIsTrusted else {
      logger.warning("hand-over refused: another user's process asked")
      return
    }
    guard offer == nil else {
      logger.warning("hand-over refused: another process was offered the listening sockets")
      return
    }
    let text =
      [greeting, self.readiness().text]
      + listeners.map { $0.purpose.rawValue + ($0.ownsFile ? " \(ownership)" : "") }
    guard channel.send(text.joined(separator: "\n"), listeners.map(\.descriptor)) else { return }
    do throws(SystemError) {
      offer = try HandoverOffer(channel, loop) { [unowned self] in answer(channel) }
      logger.info("another process asks for the listening sockets")
    } catch {
      logger.warning("hand-over failed", metadata: ["reason": "\(error)"])
    }
  }

  private func answer(_ channel: DescriptorChannel) {
    switch channel.receive() {
    case .nothing: return
    case .text("take", _):
      // A process that lost its patience is gone by now, and must not be waited for.
      guard channel.send("taken") else { return dropOffer() }
    case .text("serving", _):
      close()
      taken()
    case .text(_, let descriptors):
      for descriptor in descriptors { loop.system.close(descriptor) }
      dropOffer()
    case .end:
      dropOffer()
    }
  }

  private func dropOffer() {
    logger.warning("the process that asked for the listening sockets went away; serving on")
    offer?.close()
    offer = nil
  }

  /// Offers nothing any more. True when a process was offered the sockets: it takes them now, and their files with them.
  @discardableResult
  func close() -> Bool {
    guard let registration else { return false }
    self.registration = nil
    // Whoever finds the offer closed looks whether the path still is in use.
    listener.removeFile()
    loop.deregister(registration)
    loop.system.close(listener.descriptor)
    guard let offer else { return false }
    offer.close()
    self.offer = nil
    return true
  }
}

/// What a process has to answer requests with. The next one waits until it has as much.
package struct HandoverReadiness: Sendable, Equatable {
  /// Whether requests can be answered.
  var isReady: Bool
  /// Workers that take requests, and models that have one.
  var workers = 0
  var models = 0

  init(isReady: Bool, workers: Int = 0, models: Int = 0) {
    self.isReady = isReady
    self.workers = workers
    self.models = models
  }

  /// Reads ``text``.
  init?(_ text: String) {
    let parts = text.split(separator: " ").compactMap { Int($0) }
    guard parts.count == 3 else { return nil }
    self.init(isReady: parts[0] == 1, workers: parts[1], models: parts[2])
  }

  var text: String { "\(isReady ? 1 : 0) \(workers) \(models)" }

  /// As much as `other` has.
  func covers(_ other: HandoverReadiness) -> Bool {
    (isReady || !other.isReady) && workers >= other.workers && models >= other.models
  }
}

/// One process that was offered the sockets.
private final class HandoverOffer: EventHandler {
  private let channel: DescriptorChannel
  private let loop: EventLoop
  private let heard: () -> Void
  private var registration: Registration?

  init(_ channel: DescriptorChannel, _ loop: EventLoop, _ heard: @escaping () -> Void) throws(SystemError) {
    self.channel = channel
    self.loop = loop
    self.heard = heard
    registration = try loop.registerInput(channel.descriptor, self)
  }

  func ready(_ readiness: Readiness) { heard() }

  func close() {
    guard let registration else { return }
    self.registration = nil
    loop.deregister(registration, stillOpen: channel.descriptor)
  }
}

/// The side of the process that comes next: it has the sockets, and takes over when it is ready.
package final class Takeover: Sendable {
  /// Why the sockets cannot be had. The other process serves on.
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// How long an answer of the other process may take, in seconds.
  private static let patience = 5

  private let channel: DescriptorChannel
  package let listeners: [Listener]
  /// What the other process has: this one waits for as much before it takes over.
  let other: HandoverReadiness
  private let path: String

  private init(
    _ channel: DescriptorChannel, _ listeners: [Listener], other: HandoverReadiness, path: String
  ) {
    self.channel = channel
    self.listeners = listeners
    self.other = other
    self.path = path
  }

  /// Asks the process that listens at `path` for its sockets; nil when there is none. Waits for its answer.
  package static func begin(path: String) throws(Failure) -> Takeover? {
    let channel: DescriptorChannel
    do throws(SystemError) {
      guard let connected = try DescriptorChannel.connect(path: path, patience: patience) else { return nil }
      channel = connected
    } catch {
      throw Failure(description: "\(error)")
    }
    // Else whoever can write to the path's folder would be given the callers.
    guard channel.peerIsTrusted else {
      throw Failure(description: "the process that listens there is another user's")
    }
    guard case .text(let text, let descriptors) = channel.receive() else {
      throw Failure(
        description:
          "the process that listens there offers nothing; it may have an offer open to another process")
    }
    let lines = text.split(separator: "\n").map(String.init)
    let listeners = zip(lines.dropFirst(2), descriptors).compactMap { line, descriptor in
      let words = line.split(separator: " ").map(String.init)
      return words.first.flatMap { Listener.Purpose(rawValue: $0) }.flatMap {
        Listener(adopting: descriptor, purpose: $0, ownsFile: words.dropFirst().first == ownership)
      }
    }
    guard lines.first == greeting, lines.count >= 2, let other = HandoverReadiness(lines[1]),
      listeners.count == descriptors.count,
      listeners.contains(where: { $0.purpose == .main })
    else { throw Failure(description: "the process that listens there speaks another language") }
    return Takeover(channel, listeners, other: other, path: path)
  }

  /// Has the other process let this one accept. Waits for its word; when it is gone meanwhile, the sockets are this one's.
  func take() throws(Failure) {
    guard channel.send("take") else { return try expectNobody() }
    switch channel.receive() {
    case .text("taken", _): return
    case .end: return try expectNobody()
    case .text, .nothing: throw Failure(description: "the process before gave no answer")
    }
  }

  /// The channel has ended. A process that still is at the path has let this one go, and serves on.
  private func expectNobody() throws(Failure) {
    if Listener.isInUse(path: path) { throw Failure(description: "the process before has ended the offer") }
  }

  /// Has the other process stop: this one accepts. Waits until it has left the hand-over path.
  func serves() {
    if channel.send("serving") { _ = channel.receive() }
  }
}
